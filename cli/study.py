"""`mini-pacs status --study UID`: the steps of a study, summed up and for each instance."""

from collections.abc import Sequence

import typer

from cli.advice import RefusedError
from cli.documents import Schema, print_document
from cli.operator import opened
from cli.screen import console, dimse, table
from cli.step_table import print_steps
from gateway.database.tables import shown_units
from gateway.database.tables.shown_units import UnitRow
from gateway.database.tables.timeline import of_study
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_uid
from gateway.domain.timeline import InstanceTimeline, StepSummary, summary
from gateway.times import clock, span


def show(study_instance_uid: str, limit: int, *, as_json: bool) -> None:
    """Print the timeline of a study; refuse a study of which no instance is kept."""
    if not is_uid(study_instance_uid, MAX_DATA_SET_UID_LENGTH):
        raise typer.BadParameter(
            f"a UID has at most {MAX_DATA_SET_UID_LENGTH} characters, digits and dots", param_hint="--study"
        )
    with opened("status") as database, database.transaction() as session:
        timelines = of_study(session, study_instance_uid)
        rows = shown_units.of_studies(session, [study_instance_uid])
    if not timelines:
        raise RefusedError(not_kept(study_instance_uid))
    steps = summary(timelines)
    if as_json:
        content = {
            "study_instance_uid": study_instance_uid,
            "steps": steps,
            "units": rows,
            "instances": timelines,
        }
        print_document(Schema.STUDY, content)
    else:
        _print(study_instance_uid, timelines, steps, rows, limit)


def not_kept(study_instance_uid: str) -> str:
    """Return the message for a study of which no instance is kept."""
    return (
        f"no instance of study {study_instance_uid} is kept: none was accepted, or all were purged after "
        "sweep.retention_hours. Search the UID in the log (edge.log_path); `mini-pacs studies` lists the "
        "studies that are kept"
    )


def _print(
    study_instance_uid: str,
    timelines: Sequence[InstanceTimeline],
    steps: Sequence[StepSummary],
    rows: Sequence[UnitRow],
    limit: int,
) -> None:
    screen = console()
    print_steps(screen, f"Study {study_instance_uid}", steps, len(timelines))
    if rows:
        screen.print(_units(rows))
    for timeline in timelines[:limit]:
        screen.print(_one(timeline))
    if len(timelines) > limit:
        screen.print(f"… and {len(timelines) - limit} more instances: --limit {len(timelines)}, or --json")


def _units(rows: Sequence[UnitRow]) -> object:
    """Return a line for each series or study that an application gets whole."""
    shown = table(
        "application", "unit", "generation", "instances", "state", "since", "worker", "error", title="\nUnits"
    )
    for row in rows:
        shown.add_row(
            row.application,
            f"{row.unit} {row.uid}",
            str(row.generation),
            str(row.instances),
            row.state.value if row.completed_by is None else f"{row.state.value} (by {row.completed_by})",
            clock(row.settled_at or row.sent_at or row.completed_at or row.last_at),
            row.worker or "",
            row.last_error or "",
        )
    return shown


def _one(timeline: InstanceTimeline) -> object:
    flags = ", ".join(
        filter(
            None,
            (
                f"in {timeline.place.value}/",
                "a conflict: this UID was received before with other bytes" if timeline.conflict else "",
                f"sent {timeline.repeats} times more" if timeline.repeats else "",
                f"{timeline.unforwarded} of them not forwarded" if timeline.unforwarded else "",
            ),
        )
    )
    title = f"\n{timeline.kind.value} {timeline.sop_instance_uid} ({flags})"
    rows = table("at", "step", "took", "by", "outcome", "status", "error", title=title)
    for step in timeline.steps:
        rows.add_row(
            clock(step.at),
            step.name.value,
            "" if step.seconds is None else span(step.seconds),
            step.by or "",
            step.outcome,
            dimse(step.status),
            step.error or "",
        )
    return rows
