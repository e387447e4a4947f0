"""`mini-pacs studies`: the studies that were received last, and how many of their deliveries are done."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from cli.documents import Json, Schema, print_page
from cli.operator import opened
from cli.pages import LARGEST_ID, After, parted, token
from cli.screen import console, shortened, table
from cli.times import clock, dated
from gateway.database.tables.studies import Position, StudyRow, page
from gateway.domain.delivery import State
from gateway.domain.routing import Route

MINIMUM, WHOLE = 12, 64
"""Characters of a UID: MINIMUM tells studies apart; WHOLE is the longest UID."""
GAP = 2
"""Characters between two columns of the table."""


def studies(
    last: Annotated[int, typer.Option(min=1, max=1000, help="How many studies.")] = 20,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List the studies that were received last.

    The study with the newest instance comes first. The columns PACS and workers count the deliveries of
    each route: delivered/waiting/dead, and as a fourth number cancelled ones. `mini-pacs status --study UID`
    shows every step of one study.
    """
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
    waiting = counts.get(State.PENDING, 0) + counts.get(State.IN_FLIGHT, 0)
    figures = [counts.get(State.DELIVERED, 0), waiting, counts.get(State.DEAD, 0)]
    if counts.get(State.CANCELLED):
        figures.append(counts[State.CANCELLED])
    return "/".join(map(str, figures)) if counts else ""
