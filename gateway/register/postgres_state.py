"""Whether PostgreSQL registers what was received, as the registrar of a receiver process has last seen it.

It is *away* if it cannot be connected to, or does not answer. That passes, so reception goes on. If it
refuses the login or has another schema, associations are refused until an operator has mended it.
"""

import time
from contextlib import suppress

from gateway.errors import (
    DatabaseLoginError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    GatewayError,
)
from gateway.register.unregistered import backlog
from gateway.spool.spool import Spool

MAX_LOOKED_AT = 1000
"""How many unregistered receptions are looked at for the oldest one."""


class PostgresState:
    """The state; changed by the registrar under its lock."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.away = "PostgreSQL was not reached yet"
        """Why nothing is registered; empty if something is."""
        self._blocked = ""
        self._since: float | None = None

    def why_refused(self, max_hours: float) -> str:
        """Return why nothing may be received now; empty if it may."""
        if self._blocked:
            return self._blocked
        if self._since is not None and time.time() - self._since > max_hours * 3600:
            return f"nothing was registered for edge.max_unregistered_hours ({max_hours:g}): {self.away}"
        return ""

    def note_failure(self, error: GatewayError) -> None:
        """Note that PostgreSQL is away, or refuses."""
        self.away = str(error)
        if self._since is None:
            self._since = self._unregistered_since()
        self._blocked = "" if is_away(error) else str(error)

    def note_success(self) -> None:
        """Note that PostgreSQL has answered."""
        self.away = self._blocked = ""
        self._since = None

    def _unregistered_since(self) -> float:
        with suppress(OSError):
            oldest = backlog(self._spool, MAX_LOOKED_AT).oldest
            if oldest is not None:
                return oldest.timestamp()
        return time.time()


def is_away(error: GatewayError) -> bool:
    """Tell whether to receive and wait, because the reason passes without an operator."""
    if isinstance(error, DatabaseRefusedError):
        return error.may_pass
    return isinstance(error, DatabaseUnavailableError) and not isinstance(error, DatabaseLoginError)
