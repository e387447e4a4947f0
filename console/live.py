"""Read one snapshot a second for all open pages, and tell them by server-sent events.

While no page is open, nothing is read. After a slow snapshot the pause is longer, so that the console takes
at most a tenth of PostgreSQL's time for one connection. A page gets an event with each snapshot, and asks for
the part of it that changes. Figures that are not in the snapshot are read with `console.database.shared`,
once a second for all pages.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

import orjson

from console.database import Reading
from console.snapshot import Snapshot, snapshot
from gateway.errors import DatabaseError
from gateway.metrics.current import CurrentConfiguration

PAUSE_SECONDS = 1.0
SHARE = 9
"""The pause is at least this many times as long as the snapshot took."""
LONGEST_PAUSE_SECONDS = 15.0
KEEP_ALIVE_SECONDS = 15.0
LISTENERS_MOST = 500


@dataclass(frozen=True, slots=True)
class Seen:
    """The last snapshot, when it was taken, and why there is no newer one."""

    snapshot: Snapshot | None
    at: datetime | None
    error: str = ""


class Live:
    """Takes snapshots while somebody listens."""

    def __init__(self, reading: Reading, current: CurrentConfiguration) -> None:
        self._reading = reading
        self._current = current
        self._listeners = 0
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._number = 0
        self._taken = 0.0
        self.seen = Seen(None, None)

    async def now(self) -> Seen:
        """Return a snapshot that is at most a pause old; take one if nobody listens."""
        is_followed = self._task is not None and self.seen.at is not None
        if not is_followed and monotonic() - self._taken > PAUSE_SECONDS:
            await self._take()
        return self.seen

    async def events(self, may_look: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
        """Yield a server-sent event with each snapshot, until the browser leaves or its session has ended."""
        if self._listeners >= LISTENERS_MOST:
            yield b"retry: 10000\n\n"
            return
        self._listeners += 1
        try:
            if self._task is None:
                self._task = asyncio.create_task(self._run())
            yield b"retry: 2000\n\n"
            number = 0
            # while PostgreSQL is away, the page must learn that at once
            while self.seen.error or await may_look():
                if await self._is_newer(number):
                    number = self._number
                    yield self._event()
                else:
                    yield b": waiting\n\n"
        finally:
            self._listeners -= 1

    async def _is_newer(self, number: int) -> bool:
        """Wait for a snapshot after that number; return False if there is none for a while."""
        try:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self._number != number)
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End the snapshots."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while self._listeners:
            began = monotonic()
            await self._take()
            took = monotonic() - began
            await asyncio.sleep(min(max(PAUSE_SECONDS - took, SHARE * took), LONGEST_PAUSE_SECONDS))
        self._task = None

    async def _take(self) -> None:
        self._taken = monotonic()
        try:
            taken = await self._reading.query(snapshot, self._current())
            self.seen = Seen(taken, datetime.now(UTC))
        except DatabaseError as error:
            self.seen = Seen(self.seen.snapshot, self.seen.at, str(error) or type(error).__name__)
        async with self._changed:
            self._number += 1
            self._changed.notify_all()

    def _event(self) -> bytes:
        at = self.seen.at.isoformat(timespec="milliseconds") if self.seen.at else None
        document = orjson.dumps({"at": at, "is_up": not self.seen.error})
        return b"event: snapshot\ndata: " + document + b"\n\n"
