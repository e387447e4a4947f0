"""Find the account of a session's cookie; read PostgreSQL once for all open sessions.

The role of a session is read again after CHECKED_SECONDS, in one transaction for all sessions with requests
since. So a removed account and an ended session lose their pages and events within that time, and fifty
viewers cost PostgreSQL as much as one. A request that changes something always reads its own row (`fresh`).

While PostgreSQL is away, a known session may still read pages that need no rows. It can change nothing,
because every change is a transaction.

All state belongs to the event loop; only the transactions run in threads.
"""

import asyncio
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import NamedTuple

import anyio.to_thread

from gateway.database.pool import Database
from gateway.database.tables import console_users as store
from gateway.database.tables.console_users import Role, SessionRow
from gateway.errors import DatabaseError

LONGEST = {
    Role.VIEWER: timedelta(days=30),
    Role.OPERATOR: timedelta(hours=12),
    Role.ADMIN: timedelta(hours=12),
}
"""How long a session lasts at most. A viewer can change nothing: a screen on a wall stays signed in."""
CHECKED_SECONDS = 3.0
USED_SECONDS = 20.0
"""The time of use is written at most this often."""
REMEMBERED = 1000


class ConsoleSession(NamedTuple):
    """Who a session's cookie belongs to."""

    name: str
    role: Role


@dataclass(slots=True)
class _Seen:
    """A session that has asked. All times are of `monotonic`."""

    session: ConsoleSession
    checked: float
    """When PostgreSQL last confirmed the session."""
    asked: float
    used: float
    """When its time of use was last written."""
    last_request: float
    """Its last request that counts as use."""


class Sessions:
    """Finds and ends sessions."""

    def __init__(self, database: Database, idle: timedelta) -> None:
        self._database = database
        self._idle = idle
        self._seen: dict[bytes, _Seen] = {}
        self._checking: asyncio.Future[dict[bytes, SessionRow]] | None = None

    async def find(self, token: str, *, uses: bool, fresh: bool) -> ConsoleSession | None:
        """Return the account of a cookie; None if its session has ended.

        `uses`: the request keeps the session from being idle. `fresh`: ask PostgreSQL, because the request
        changes something.

        Raises:
            DatabaseError: PostgreSQL is away, and the session is not known from before, or `fresh`.
        """
        now, key = monotonic(), store.digest(token)
        seen = self._seen.get(key)
        try:
            if seen is None or fresh or (uses and now - seen.used >= USED_SECONDS):
                row = (await self._read([key], uses=uses)).get(key)
                return None if row is None else ConsoleSession(row.name, row.role)
            seen.last_request = now if uses else seen.last_request
            while seen is not None and now - seen.checked >= CHECKED_SECONDS:
                seen.asked = monotonic()
                await self._check()
                seen = self._seen.get(key)
        except DatabaseError:
            if seen is None or fresh:
                raise
        is_over = seen is None or now - seen.last_request > self._idle.total_seconds()
        return None if seen is None or is_over else seen.session

    async def end(self, token: str) -> None:
        """End a session."""
        await anyio.to_thread.run_sync(self._end, token)
        self._seen.pop(store.digest(token), None)

    def forget(self, name: str) -> None:
        """Ask PostgreSQL at the next request of each session of an account: it was changed."""
        for key, seen in self._seen.items():
            if seen.session.name == name:
                # a new object: a transaction that began before this one does not write into it
                self._seen[key] = replace(seen, checked=-math.inf)

    async def _check(self) -> None:
        """Read all sessions with requests since the last check; requests that come meanwhile wait for it."""
        if self._checking is None or self._checking.done():
            since = monotonic() - CHECKED_SECONDS
            keys = [key for key, seen in self._seen.items() if seen.asked >= since]
            self._checking = asyncio.ensure_future(self._read(keys, uses=False))
            self._checking.add_done_callback(lambda task: task.cancelled() or task.exception())
        # shielded: a browser that leaves must not end what others wait for
        await asyncio.shield(self._checking)

    async def _read(self, keys: list[bytes], *, uses: bool) -> dict[bytes, SessionRow]:
        """Return the rows of the sessions that have not ended; write the time of use where it is due."""
        now = monotonic()
        known = {key: self._seen.get(key) for key in keys}
        due = {key for key, seen in known.items() if seen is None or now - seen.used >= USED_SECONDS}
        rows = await anyio.to_thread.run_sync(partial(self._rows, keys, due, uses=uses))
        for key, seen in known.items():
            row = rows.get(key)
            if row is None:
                self._seen.pop(key, None)
            elif self._seen.get(key) is seen:  # else it was ended or changed meanwhile
                self._remember(key, row, now, is_used=key in due and _is_kept(row, uses=uses), uses=uses)
        return rows

    def _remember(self, key: bytes, row: SessionRow, now: float, *, is_used: bool, uses: bool) -> None:
        session = ConsoleSession(row.name, row.role)
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) >= REMEMBERED:
                self._seen.pop(next(iter(self._seen)))
            seen = _Seen(session, now, now, now - USED_SECONDS, now - row.idle.total_seconds())
            self._seen[key] = seen
        seen.session, seen.checked = session, now
        if is_used:
            seen.used = now
        if _is_kept(row, uses=uses):
            seen.last_request = now

    def _rows(self, keys: list[bytes], due: Collection[bytes], *, uses: bool) -> dict[bytes, SessionRow]:
        with self._database.transaction() as session:
            found = {row.token_hash: row for row in store.sessions(session, keys)}
            ended = [key for key, row in found.items() if self._has_ended(row)]
            store.end_unused(session, ended)
            kept = {key: row for key, row in found.items() if key not in ended}
            store.use(session, [key for key, row in kept.items() if key in due and _is_kept(row, uses=uses)])
        return kept

    def _end(self, token: str) -> None:
        with self._database.transaction() as session:
            store.end(session, token)

    def _has_ended(self, row: SessionRow) -> bool:
        return row.idle > self._idle or row.age > LONGEST[row.role]


def _is_kept(row: SessionRow, *, uses: bool) -> bool:
    # a viewer's open page keeps the session: see LONGEST
    return uses or row.role is Role.VIEWER
