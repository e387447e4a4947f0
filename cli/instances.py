"""`mini-pacs instances` and `mini-pacs results`: list them, and those that do not fit."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from cli.documents import Json, Schema, print_page
from cli.operator import opened
from cli.pages import LARGEST_ID, After, parted, token
from cli.screen import console, table
from gateway.database.tables import strays
from gateway.database.tables.strays import ConflictRow, InstanceRow, ResultRow
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_uid
from gateway.domain.matching import Correlation
from gateway.times import clock, dated

app = typer.Typer(help="List the kept instances, and UIDs that came with other bytes.", no_args_is_help=True)
results_app = typer.Typer(
    help="List the results of the workers, and those that match no source.", no_args_is_help=True
)

Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many rows, the newest first.")]


@app.callback()
def _instances() -> None:
    """List the kept instances, and UIDs that came with other bytes."""


@results_app.callback()
def _results() -> None:
    """List the results of the workers, and those that match no source."""


@app.command("list")
def list_(
    *,
    conflict: Annotated[
        bool,
        typer.Option("--conflict", help="One row for each SOP Instance UID that came with other bytes."),
    ] = False,
    study: Annotated[
        str | None, typer.Option(metavar="UID", help="Only those of a study.", show_default=False)
    ] = None,
    limit: Limit = 50,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List the instances that are kept, the one that was received last first."""
    if conflict and study is not None:
        raise typer.BadParameter("give --conflict or --study, not both", param_hint="--study")
    if study is not None and not is_uid(study, MAX_DATA_SET_UID_LENGTH):
        raise typer.BadParameter(f"{study!r} is no UID", param_hint="--study")
    position = _position(after)
    with opened("instances") as database, database.statement() as session:
        if conflict:
            conflicts = strays.conflicts(session, limit=limit + 1, after=position)
            shown: Sequence[ConflictRow | InstanceRow] = conflicts[:limit]
            more = _next(conflicts, limit, conflicts[limit - 1].last_at) if len(conflicts) > limit else None
        else:
            found = strays.instances(session, study=study, limit=limit + 1, after=position)
            shown = found[:limit]
            more = _next(found, limit, found[limit - 1].received_at) if len(found) > limit else None
    if as_json:
        print_page(Schema.INSTANCES, shown, more)
    elif not shown:
        typer.echo("No UID came with other bytes." if conflict else "No instance is kept.")
    else:
        _print_instances(shown)
        _print_next(more)


@results_app.command("list")
def list_results(
    *,
    unmatched: Annotated[
        bool, typer.Option("--unmatched", help="Only results of which no source is known.")
    ] = False,
    flagged: Annotated[
        bool, typer.Option("--flagged", help="Also those that match several, or came late; no others.")
    ] = False,
    limit: Limit = 50,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List the results that are kept, with sender and reason, the one that was received last first.

    A result goes to the PACS whether or not its source is known.
    """
    correlation = Correlation.UNMATCHED if unmatched and not flagged else None
    with opened("results") as database, database.statement() as session:
        found = strays.results(
            session,
            flagged=flagged or unmatched,
            correlation=correlation,
            limit=limit + 1,
            after=_position(after),
        )
    shown = found[:limit]
    more = _next(found, limit, shown[-1].received_at) if len(found) > limit else None
    if as_json:
        print_page(Schema.RESULTS, [row._asdict() | {"reason": row.reason} for row in shown], more)
    elif not shown:
        typer.echo("There is no such result.")
    else:
        _print_results(shown)
        _print_next(more)


def _position(after: str | None) -> strays.After | None:
    if after is None:
        return None
    received_at, instance_id = parted(after, int)
    return strays.After(received_at, min(int(instance_id), LARGEST_ID))


def _next(
    found: Sequence[ConflictRow] | Sequence[InstanceRow] | Sequence[ResultRow], limit: int, at: datetime
) -> str:
    return token(at, found[limit - 1].instance_id)


def _print_next(more: str | None) -> None:
    if more is not None:
        console().print(f"There are more: --after {more}, or --limit", soft_wrap=True)


def _print_instances(rows: Sequence[ConflictRow | InstanceRow]) -> None:
    screen = console()
    if isinstance(rows[0], ConflictRow):
        shown = table(
            "last", "first", "versions", "SOP Instance UID", "from", "deliveries",
            title=dated("UIDs that came with other bytes"),
        )  # fmt: skip
        for row in rows:
            assert isinstance(row, ConflictRow)
            shown.add_row(
                clock(row.last_at),
                clock(row.first_at),
                str(row.versions),
                row.sop_instance_uid,
                ", ".join(row.senders),
                ", ".join(f"{count} {state}" for state, count in (row.deliveries or {}).items()),
            )
        screen.print(shown)
        screen.print(
            "\nEvery version is kept and forwarded in its order. A sender that uses a UID again for other "
            "bytes violates the standard: ask its vendor. `mini-pacs why UID` shows where they are.",
            soft_wrap=True,
        )
        return
    shown = table(
        "received", "kind", "SOP Instance UID", "from", "in", "sent again", title=dated("Instances")
    )
    for row in rows:
        assert isinstance(row, InstanceRow)
        shown.add_row(
            clock(row.received_at),
            f"{row.kind.value}{', conflict' if row.conflict else ''}",
            row.sop_instance_uid,
            f"{row.calling_ae_title}@{row.remote_address}",
            row.place.value,
            str(row.repeats or ""),
        )
    screen.print(shown)


def _print_results(rows: Sequence[ResultRow]) -> None:
    shown = table(
        "received", "SOP Instance UID", "from", "sources", "found by", "why", title=dated("Results")
    )
    for row in rows:
        shown.add_row(
            clock(row.received_at),
            row.sop_instance_uid,
            f"{row.calling_ae_title}@{row.remote_address}",
            str(row.sources),
            "" if row.correlation is None else row.correlation.value,
            row.reason,
        )
    console().print(shown)
