"""The screen Refusals: who was turned away, why, how often, and what lets it in."""

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.pages.positions import position, position_of
from console.parts import parts
from console.screen import page, read
from console.views.refusals import NEWEST, WINDOWS, look

LISTED = 50
DEFAULT = "1d"
LABELS = (("1h", "the last hour"), ("1d", "a day"), ("7d", "7 days"), ("30d", "30 days"))
LONGEST_TITLE = 64
_MD5 = re.compile(r"[0-9a-f]{32}")


async def screen(request: Request) -> Response:
    """Show a page of refusals, filtered by time and AE title."""
    chosen = request.query_params.get("since", DEFAULT)
    since = chosen if chosen in WINDOWS else DEFAULT
    calling = request.query_params.get("aet", "").strip()[:LONGEST_TITLE]
    after = position_of(request.query_params.get("after", ""), _md5)
    edge = parts(request).configuration.edge.ae_title
    view = await read(
        request,
        look,
        WINDOWS[since],
        limit=LISTED,
        after=after,
        calling_ae_title=calling or None,
        edge_ae_title=edge,
    )
    return page(
        request,
        "refusals.html",
        part="_refusals.html",
        view=view,
        since=since,
        windows=LABELS,
        calling=calling,
        is_first=after is None,
        following=position(view.after),
        newest=NEWEST,
    )


def _md5(text: str) -> str:
    if _MD5.fullmatch(text) is None:
        raise ValueError(text)
    return text


routes = [Route("/refusals", screen)]
