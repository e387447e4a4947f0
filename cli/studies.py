"""`mini-pacs studies`: the studies that were received last, and how many of their deliveries are done.

`mini-pacs studies complete` sends a study or a series now to the applications that wait for the rest of it.
"""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from cli.advice import RefusedError
from cli.documents import Json, Schema, print_document, print_page
from cli.operator import configured, opened, operator
from cli.pages import LARGEST_ID, After, parted, token
from cli.screen import console, shortened, table
from gateway.database.tables.studies import Position, StudyRow, page
from gateway.domain.delivery import State
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_uid
from gateway.domain.routing import Route
from gateway.operate import units as use_cases
from gateway.times import clock, dated

MINIMUM, WHOLE = 12, 64
"""Characters of a UID: MINIMUM tells studies apart; WHOLE is the longest UID."""
GAP = 2
"""Characters between two columns of the table."""


app = typer.Typer(
    help="List the studies that were received last; complete one that an application waits for."
)


@app.callback(invoke_without_command=True)
def studies(
    context: typer.Context,
    last: Annotated[int, typer.Option(min=1, max=1000, help="How many studies.")] = 20,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List the studies that were received last; complete one that an application waits for.

    The study with the newest instance comes first. The columns PACS and workers count the deliveries of
    each route: delivered/waiting/dead, and as a fourth number cancelled ones. `mini-pacs status --study UID`
    shows every step of one study.
    """
    if context.invoked_subcommand is not None:
        return
    position = None
    if after is not None:
        received_at, instance_id = parted(after, int)
        position = Position(received_at, min(int(instance_id), LARGEST_ID))
    with opened("studies") as database, database.statement() as session:
        rows, following = page(session, last=last, after=position)
    more = None if following is None else token(*following)
    if as_json:
        print_page(Schema.STUDIES, rows, more)
        return
    if not rows:
        typer.echo("No study is kept." if after is None else "There are no older studies.")
        return
    screen = console()
    screen.print(_table(rows, screen.width))
    if more is not None:
        screen.print(f"There are more studies: --last {2 * last}, or --after {more}", soft_wrap=True)


@app.command()
def complete(
    uid: Annotated[str, typer.Argument(help="A Study or Series Instance UID.")],
    application: Annotated[
        str | None, typer.Option(help="Only for this application; default: all that wait for it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send a study or a series now, whole, to the applications that wait for the rest of it.

    Instances that arrive afterwards are late: the key `late` of the application says what happens to them.
    """
    if not is_uid(uid, MAX_DATA_SET_UID_LENGTH):
        raise typer.BadParameter(
            f"a UID has at most {MAX_DATA_SET_UID_LENGTH} characters, digits and dots", param_hint="UID"
        )
    configured()
    with opened("studies", changes=True) as database:
        done = use_cases.complete(database, uid, application, operator())
    if not done:
        raise RefusedError(_nothing_waits(uid, application))
    if as_json:
        print_document(Schema.COMPLETED_UNITS, {"completed": done})
        return
    for one in done:
        typer.echo(
            f"{one.unit} {one.uid} (generation {one.generation}) is sent to {one.application} now, with the "
            f"{one.instances} instances that are here"
        )
    typer.echo("`mini-pacs status --study UID` shows what follows.")


def _nothing_waits(uid: str, application: str | None) -> str:
    which = "no application waits" if application is None else f"application {application} does not wait"
    return (
        f"{which} for the rest of a study or series {uid}: it was sent before, is being sent, or no instance "
        "of it is owed to an application with unit: series or study. `mini-pacs status --study UID` shows "
        "its units"
    )


def _table(rows: Sequence[StudyRow], width: int) -> Table:
    """Return a line for each study; a narrow screen has no column with the time of its first instance."""
    columns: dict[str, list[str]] = {
        "first": [clock(row.first_received_at) for row in rows],
        "last": [clock(row.last_received_at) for row in rows],
        "inst": [str(row.instances) for row in rows],
        "res": [str(row.results) for row in rows],
        "PACS": [_counts(row, Route.PACS) for row in rows],
        "archives": [_counts(row, Route.ARCHIVES) for row in rows],
        "workers": [_counts(row, Route.WORKERS) for row in rows],
    }
    names = "PACS, archives and workers"
    if not any(columns["archives"]):
        del columns["archives"]
        names = "PACS and workers"
    widths = {name: max(len(name), *map(len, cells)) + GAP for name, cells in columns.items()}
    if width - sum(widths.values()) < MINIMUM + GAP:
        del columns["first"], widths["first"]
    of_uid = min(max(width - sum(widths.values()) - GAP, MINIMUM), WHOLE)
    shown = table("study", *columns, title=dated(f"Studies; {names}: delivered/waiting/dead"))
    for row, cells in zip(rows, zip(*columns.values(), strict=True), strict=True):
        shown.add_row(shortened(row.study_instance_uid, of_uid), *cells)
    return shown


def _counts(row: StudyRow, route: Route) -> str:
    """Return `18/2/0`, with a fourth number for cancelled deliveries; empty where there is no delivery."""
    counts = row.deliveries.get(route, {})
    waiting = sum(counts.get(state, 0) for state in (State.COLLECTING, State.PENDING, State.IN_FLIGHT))
    figures = [counts.get(State.DELIVERED, 0), waiting, counts.get(State.DEAD, 0)]
    if counts.get(State.CANCELLED):
        figures.append(counts[State.CANCELLED])
    return "/".join(map(str, figures)) if counts else ""
