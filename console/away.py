"""The page that says that PostgreSQL is away, or too slow, with what is known without it."""

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from console.parts import parts
from console.screen import is_part, page
from gateway.diagnosis import spool
from gateway.errors import DatabaseError, DatabaseRefusedError, SchemaError

CANCELLED = "57014"
"""SQLSTATE of a statement that its timeout ended."""


async def away(request: Request, error: Exception) -> Response:
    """Answer 503. A part of a page gets the status only: the page keeps its content, and shows its age."""
    assert isinstance(error, DatabaseError)
    if is_part(request):
        return PlainTextResponse("PostgreSQL is away.\n", status_code=503)
    configuration = parts(request).configuration
    # strangers learn only that PostgreSQL is away
    known = request.state.account is not None
    space = await anyio.to_thread.run_sync(spool.measure, configuration) if known else None
    slow = isinstance(error, DatabaseRefusedError) and error.sqlstate == CANCELLED
    return page(
        request,
        "away.html",
        status=503,
        space=space,
        error=str(error) if known else "",
        is_slow=slow,
        is_schema=isinstance(error, SchemaError),
    )
