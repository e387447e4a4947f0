"""The history: what was received, and its outcome at each destination, after files and rows were purged.

The purge writes it in the transaction that deletes the instances, so a registration costs nothing, and each
instance is in `instances` or in the history. An instance takes some 330 bytes, its index included.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.domain.instance import Kind

FORGET_AT_ONCE = 200
"""Studies of one call of `forget`; each run of the sweep calls it while it finds some."""

_Q = load("history")


class PastInstance(NamedTuple):
    """An instance that was purged. `outcomes`: by destination, `route`, `state`, `at` and last `status`."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    calling_ae_title: str
    remote_address: str
    kind: Kind
    received_at: datetime
    repeats: int
    outcomes: dict[str, dict[str, Any]]
    purged_at: datetime

    @property
    def is_delivered(self) -> bool:
        """Tell whether every destination got it."""
        return all(outcome["state"] == "delivered" for outcome in self.outcomes.values())


class PastStudy(NamedTuple):
    """A study of the history, and when its last instance was received."""

    study_instance_uid: str
    last_received_at: datetime


def keep(session: Session, instance_ids: Sequence[int]) -> int:
    """Write the history of instances that this transaction deletes; return how many."""
    return session.run(_Q["keep"], instance_ids=list(instance_ids)) if instance_ids else 0


def find(session: Session, uid: str, *, limit: int) -> list[PastInstance]:
    """Return the instances with that UID, of that series or that study; undelivered ones first."""
    return session.rows(PastInstance, _Q["find"], uid=uid, limit=limit)


def of_sender(
    session: Session, ae_title: str, *, begin: datetime, until: datetime, limit: int
) -> list[PastStudy]:
    """Return the studies that an AE title sent in that time, the last one first."""
    return session.rows(PastStudy, _Q["of_sender"], ae_title=ae_title, begin=begin, until=until, limit=limit)


def forget(session: Session, kept: timedelta) -> list[str]:
    """Delete some studies that were received longer ago than `kept`; return their UIDs."""
    return session.values(_Q["forget"], kept=kept, limit=FORGET_AT_ONCE)
