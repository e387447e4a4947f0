"""The screen Activity: what operators did, by command line or console."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.database import shared
from console.screen import page, read
from gateway.database.tables import activity
from gateway.database.tables.console_actions import latest

LISTED = 100
LONGEST = 200
LARGEST_ID = (1 << 63) - 1
RUNNING = 5


async def screen(request: Request) -> Response:
    """Show a page of what was done, the newest first; filtered by who and what."""
    who = request.query_params.get("who", "").strip()[:LONGEST]
    verb = request.query_params.get("verb", "").strip()[:LONGEST]
    after = _id(request.query_params.get("after", ""))
    found = await read(
        request, activity.page, limit=LISTED + 1, after=after, who=who or None, verb=verb or None
    )
    rows = found[:LISTED]
    return page(
        request,
        "activity.html",
        part="_activity.html",
        rows=rows,
        who=who,
        verb=verb,
        is_first=after is None,
        following=rows[-1].id if len(found) > LISTED else None,
        actions=await shared(request, latest, limit=RUNNING) if after is None else (),
    )


def _id(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text[:20])
    return number if number <= LARGEST_ID else None


routes = [Route("/activity", screen)]
