"""Server-sent events for open pages, and a health check for containers."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from console.access import account_of
from console.parts import parts
from gateway.errors import DatabaseError


async def live(request: Request) -> Response:
    """Tell the page of each snapshot until it closes the connection, or its session ends."""
    found = parts(request)

    async def may_look() -> bool:
        try:
            return await account_of(request, found, uses=False, fresh=False) is not None
        except DatabaseError:
            return False  # the page asks again, and learns from the answer that PostgreSQL is away

    return StreamingResponse(found.live.events(may_look), media_type="text/event-stream")


async def health(_: Request) -> Response:
    """Answer that the console runs; it says nothing about the edge."""
    return PlainTextResponse("The console runs.\n")


routes = [Route("/live", live), Route("/health", health)]
