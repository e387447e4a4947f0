"""`mini-pacs studies`: which studies were received last, and how far they are."""

import re
from datetime import datetime
from typing import Annotated

import typer

from cli.documents import Json, Schema, print_page
from cli.operator import opened
from cli.screen import console, shortened, table
from cli.times import clock, dated
from gateway.domain.delivery import State
from gateway.domain.routing import Route
from gateway.store.studies import Position, StudyRow, page

_POSITION = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00)/(\d{1,18})")
OTHER_COLUMNS = 62
"""What the other columns take of a line; a UID gets the rest."""
UID_COLUMNS = (16, 64)


def studies(
    last: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    after: Annotated[
        str | None,
        typer.Option(metavar="NEXT", help="The `next` of the page before: go on there.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the studies that were received last.

    The newest first, by the last instance received. Of each route: delivered/all, then what waits and what
    is dead. `mini-pacs status --study UID` shows every step of one.
    """
    position = None if after is None else _position(after)
    with opened("studies") as database, database.statement() as session:
        rows, following = page(session, last=last, after=position)
    token = None if following is None else f"{following.received_at.isoformat()}/{following.instance_id}"
    if as_json:
        print_page(Schema.STUDIES, rows, token)
        return
    if not rows:
        typer.echo("No study is kept." if after is None else "There are no older ones.")
        return
    screen = console()
    width = min(max(screen.width - OTHER_COLUMNS, UID_COLUMNS[0]), UID_COLUMNS[1])
    shown = table("study", "first", "last", "inst", "res", "PACS", "workers", title=dated("Studies"))
    for row in rows:
        shown.add_row(
            shortened(row.study_instance_uid, width),
            clock(row.first_received_at),
            clock(row.last_received_at),
            str(row.instances),
            str(row.results),
            _progress(row, Route.PACS),
            _progress(row, Route.WORKERS),
        )
    screen.print(shown)
    if token is not None:
        screen.print(f"There are more: --last {2 * last}, or --after {token}", soft_wrap=True)


def _progress(row: StudyRow, route: Route) -> str:
    """`18/20, 2 wait`: how many deliveries of a route are done, and what became of the others."""
    counts = row.deliveries.get(route, {})
    if not counts:
        return ""
    waiting = counts.get(State.PENDING, 0) + counts.get(State.IN_FLIGHT, 0)
    words = [f"{counts.get(State.DELIVERED, 0)}/{sum(counts.values())}"]
    words += [f"{waiting} wait"] if waiting else []
    words += [
        f"{counts[state]} {state.value}" for state in (State.DEAD, State.CANCELLED) if counts.get(state)
    ]
    return ", ".join(words)


def _position(text: str) -> Position:
    found = _POSITION.fullmatch(text)
    try:
        if found is not None:
            return Position(datetime.fromisoformat(found[1]), int(found[2]))
    except ValueError:
        pass
    raise typer.BadParameter(
        "the `next` of a page before is expected, like 2026-01-31T12:00:00.000000+00:00/42",
        param_hint="--after",
    )
