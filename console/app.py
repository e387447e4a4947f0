"""Make the application of the console from a configuration."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from console.away import away
from console.background import Background
from console.database import ACTING_CONNECTIONS, Reading
from console.first_link import FirstLink
from console.guard import Guard
from console.health import Health
from console.live import Live
from console.parts import Parts
from console.routes import routes
from console.screen import environment, page
from console.sessions import Sessions
from console.sign_in import SignIn
from gateway import log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.errors import DatabaseError
from gateway.log import Stage
from gateway.metrics.current import CurrentConfiguration

STATIC = Path(__file__).parent / "static"
ACTING_SECONDS = 60.0
"""Limit of one statement of an action; longer ones run in slices."""


def application(configuration: Configuration, dsn: str, *, link: FirstLink | None = None) -> Guard:
    """Return the ASGI application; it connects to PostgreSQL with the first request.

    It takes changes of config.yaml, except of `console.bind`, `port`, `tls` and `idle_minutes`.
    """
    current = CurrentConfiguration(configuration)
    reading = Reading(dsn)
    acting = Database(
        dsn, application_name="mini-pacs console", size=ACTING_CONNECTIONS, deadline_seconds=ACTING_SECONDS
    )
    parts = Parts(
        current=current,
        reading=reading,
        acting=acting,
        sign_in=SignIn(acting, configuration.console.idle),
        sessions=Sessions(acting, configuration.console.idle),
        live=Live(reading, current),
        health=Health(current, dsn),
        background=Background(acting),
        link=link or FirstLink(),
        templates=environment(),
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            await anyio.to_thread.run_sync(parts.background.resume)
        except DatabaseError as error:  # the rows stay `running` until the next start
            log.write(Stage.CONSOLE, "waiting", level="warning", error=str(error))
        yield
        await parts.live.stop()
        await parts.health.stop()
        await parts.background.stop()
        reading.database.close()
        acting.close()

    app = Starlette(
        routes=[*routes(), Mount("/static", StaticFiles(directory=STATIC), name="static")],
        lifespan=lifespan,
        exception_handlers={HTTPException: _not_found, DatabaseError: away},
    )
    app.state.parts = parts
    return Guard(app)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.state.account is None:
        return Response(f"{error.detail}\n", status_code=error.status_code, media_type="text/plain")
    return page(request, "missing.html", status=error.status_code, detail=error.detail)
