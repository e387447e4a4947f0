"""Read rows for pages: in a thread, in a read-only transaction, with a limit for each statement.

    await query(request, selected_deliveries.find, selection, limit=50)   reads now
    await shared(request, overview)                                       the same for all who ask in a second

The functions take a session first, as those of gateway/database/tables do. `shared` reads once for many
browsers: every call of the same function with the same arguments within a second gets the same result.

An error of PostgreSQL reaches the handler in console/app.py, which answers with a page that says so.
"""

import asyncio
import functools
from collections.abc import Callable, Hashable
from time import monotonic
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from gateway.database.pool import Database
from gateway.database.session import Session

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

P = ParamSpec("P")
T = TypeVar("T")

STATEMENT_SECONDS = 5
CONNECTIONS = 4
"""Threads that read at the same time; further pages wait for one."""
ACTING_CONNECTIONS = 3
SHARED_SECONDS = 1.0
SHARED_MOST = 500
BOUNDED = f"SET TRANSACTION READ ONLY; SET LOCAL statement_timeout TO '{STATEMENT_SECONDS}s';"


class Reading:
    """A pool of connections that only read, and the results of the last second."""

    def __init__(self, dsn: str) -> None:
        # The limit of PostgreSQL must end a statement before that of the connection, which closes it.
        self.database = Database(
            dsn,
            application_name="mini-pacs console",
            size=CONNECTIONS,
            deadline_seconds=STATEMENT_SECONDS + 2.0,
        )
        self._limiter: anyio.CapacityLimiter | None = None
        self._shared: dict[Hashable, tuple[float, asyncio.Future[Any]]] = {}

    async def query(
        self, function: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what `function` reads. Raise what it raises."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(CONNECTIONS)
        call = functools.partial(self.read, function, *args, **kwargs)
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)

    def read(self, function: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the same in the thread of the caller."""
        with self.database.transaction(before=BOUNDED) as session:
            return function(session, *args, **kwargs)

    async def shared(
        self, function: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what `function` read within the last second, for any caller; arguments must be hashable."""
        key = (function, args, tuple(sorted(kwargs.items())))
        now = monotonic()
        known = self._shared.get(key)
        if known is None or (known[1].done() and now - known[0] > SHARED_SECONDS):
            self._forget(now)
            task = asyncio.ensure_future(self.query(function, *args, **kwargs))
            known = self._shared[key] = (now, task)
        # shielded: a browser that leaves must not end a read that others wait for
        found: T = await asyncio.shield(known[1])
        return found

    def _forget(self, now: float) -> None:
        old = [key for key, (at, task) in self._shared.items() if task.done() and now - at > SHARED_SECONDS]
        for key in old:
            task = self._shared.pop(key)[1]
            if not task.cancelled():
                task.exception()  # else asyncio reports an error that nobody waited for
        while len(self._shared) > SHARED_MOST:
            self._shared.pop(next(iter(self._shared)))


async def query(
    request: "HTTPConnection",
    function: Callable[Concatenate[Session, P], T],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Call `function` with a session that only reads; return what it returns."""
    reading: Reading = request.app.state.parts.reading
    return await reading.query(function, *args, **kwargs)


async def shared(
    request: "HTTPConnection",
    function: Callable[Concatenate[Session, P], T],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Do the same at most once a second for equal calls; for live figures."""
    reading: Reading = request.app.state.parts.reading
    return await reading.shared(function, *args, **kwargs)
