"""Server-sent events for open pages, and a health check for containers."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from console.parts import parts


async def live(request: Request) -> Response:
    """Tell the page of each snapshot until it closes the connection."""
    return StreamingResponse(parts(request).live.events(), media_type="text/event-stream")


async def health(_: Request) -> Response:
    """Answer that the console runs; it says nothing about the edge."""
    return PlainTextResponse("The console runs.\n")


routes = [Route("/live", live), Route("/health", health)]
