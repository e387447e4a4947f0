"""How far a consumer has come in its queue, so that a claim need not begin at what is finished.

The entries of finished messages stay at the front of the claim's index until they may be removed, which a
long transaction of anybody delays: a backup, a forgotten psql. Without this each claim would walk all of
them. A consumer that gets as much as it wants looks behind what it got last; as soon as it gets less, and at
least each LOOK_BACK_SECONDS (less often where the look is slow), it looks from the very front again, where a
retry or a late commit may stand.
"""

from collections.abc import Sequence
from datetime import datetime
from time import monotonic

from gateway.database.tables.messages import GATED_PRIORITIES, NO_FLOORS, Claimed

LOOK_BACK_SECONDS = 1.0
"""How much later than its turn a message before the front may run; not more than a lost NOTIFY costs."""

_LOOK_BACK_SHARE = 10
"""A look from the very front may take a tenth of the time, so that under a transaction of hours, where it
walks everything that was finished since, claims still go on."""


class ClaimFloor:
    """The due times, by priority, behind which one consumer goes on."""

    def __init__(self) -> None:
        self._floors = list(NO_FLOORS)
        self._look_back_at = 0.0
        self._looked_at: float | None = None

    def floors(self) -> Sequence[datetime | None]:
        """For each of the GATED_PRIORITIES the due time before which not to look now."""
        now = monotonic()
        self._looked_at = None
        if now >= self._look_back_at:
            self._floors = list(NO_FLOORS)
            self._looked_at = now
            self._look_back_at = now + LOOK_BACK_SECONDS
        return self._floors

    def advance(self, claimed: Sequence[Claimed], *, wanted: int) -> None:
        """Go on behind these, if they were as many as wanted."""
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
