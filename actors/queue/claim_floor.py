"""Remember how far a consumer has come in its queue, so that a claim does not begin at finished messages.

PostgreSQL keeps the index entries of finished messages until no old transaction needs them. A long
transaction (a backup, a forgotten psql) may keep millions of them at the front of the index, and each claim
would read them all. So a consumer that gets as many messages as it wants continues behind the last one.

A retry or a late commit may be before that place. So the consumer begins at the front again as soon as it
gets fewer messages than it wants, and at least each LOOK_BACK_SECONDS.

If the process dies, the next one begins at the front.
"""

from collections.abc import Sequence
from datetime import datetime
from time import monotonic

from gateway.database.tables.messages import GATED_PRIORITIES, NO_FLOORS, Claimed

LOOK_BACK_SECONDS = 1.0
"""Between claims from the front, unless these are slow. A message before the floor may wait so long."""

_LOOK_BACK_SHARE = 10
"""Claims from the front may take a tenth of the time. During a transaction of hours they are slow: they read
all messages that were finished since it began."""


class ClaimFloor:
    """The due times, by priority, from which one consumer continues."""

    def __init__(self) -> None:
        self._floors = list(NO_FLOORS)
        self._look_back_at = 0.0
        self._looked_at: float | None = None

    def floors(self) -> Sequence[datetime | None]:
        """Return the due time from which to claim, for each of the GATED_PRIORITIES; None means the front."""
        now = monotonic()
        self._looked_at = None
        if now >= self._look_back_at:
            self._floors = list(NO_FLOORS)
            self._looked_at = now
            self._look_back_at = now + LOOK_BACK_SECONDS
        return self._floors

    def advance(self, claimed: Sequence[Claimed], *, wanted: int) -> None:
        """Continue behind the claimed messages if there were as many as wanted; else begin at the front."""
        if self._looked_at is not None:
            took = monotonic() - self._looked_at
            self._look_back_at = self._looked_at + max(LOOK_BACK_SECONDS, took * _LOOK_BACK_SHARE)
        if len(claimed) < wanted:
            self._floors = list(NO_FLOORS)
            return
        for one in claimed:
            if one.priority in GATED_PRIORITIES:
                floor = self._floors[one.priority]
                self._floors[one.priority] = one.due if floor is None else max(floor, one.due)
