"""`mini-pacs activity`: what operators did, by command line or console."""

from typing import Annotated

import typer

from cli.documents import Json, Schema, print_page
from cli.operator import opened
from cli.pages import LARGEST_ID
from cli.screen import console, table
from gateway.database.tables import activity as store
from gateway.times import clock, dated


def activity(
    last: Annotated[int, typer.Option(min=1, max=100_000, help="How many actions, the newest first.")] = 50,
    after: Annotated[
        int | None,
        typer.Option(
            metavar="NEXT",
            min=1,
            max=LARGEST_ID,
            help="Print the next page; NEXT is the value of `next` of the page before.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List what operators did: who, when, from where, what, to what, how many.

    The record is append-only: nothing in it can be changed or deleted, and reset-db spares it.
    """
    with opened("activity") as database, database.statement() as session:
        found = store.page(session, limit=last + 1, after=after)
    rows = found[:last]
    following = str(rows[-1].id) if len(found) > last else None
    if as_json:
        print_page(Schema.ACTIVITY, rows, following)
        return
    if not rows:
        typer.echo("Nobody has done anything yet." if after is None else "There is no older activity.")
        return
    shown = table("when", "who", "from", "by", "what", "target", "count", "outcome", title=dated("Activity"))
    for one in rows:
        count = "" if one.count is None else f"{one.count:,}"
        shown.add_row(
            clock(one.at), one.who, one.address, one.via.value, one.verb, one.target, count, one.outcome
        )
    screen = console()
    screen.print(shown)
    if following is not None:
        screen.print(f"There is older activity: --after {following}", soft_wrap=True)
