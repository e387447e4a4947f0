"""What the edge turned away: by minute and peer, and the instances among it by their UIDs.

`gateway/receive/refusals.py` counts in memory and calls `add` every few seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.domain.refusal import Reason, RefusalKind, Refused

KEPT = timedelta(days=30)
"""How long refusals are kept by minute. Refused instances are kept as long as the history."""
MOST_ROWS = 1_000_000
"""Beyond this many rows the oldest are deleted, so that a peer that tries for ever cannot fill the disk."""
FORGET_AT_ONCE = 10_000

_Q = load("refusals")


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """What one peer was refused for one reason: how often, and the last time."""

    kind: RefusalKind
    reason: Reason
    calling_ae_title: str
    called_ae_title: str
    remote_address: str
    count: int
    first_at: datetime
    last_at: datetime
    status: int | None
    detail: str | None
    last_uid: str | None
    id: str = ""

    @property
    def refused(self) -> Refused:
        """Who was turned away, and why."""
        return Refused(self.reason, self.calling_ae_title, self.called_ae_title, self.remote_address)


@dataclass(frozen=True, slots=True)
class RefusedInstance:
    """An instance that was refused; the Study Instance UID is empty where it was never read."""

    sop_instance_uid: str
    study_instance_uid: str
    calling_ae_title: str
    remote_address: str
    reason: Reason
    status: int
    detail: str | None
    count: int
    first_at: datetime
    last_at: datetime
    was_accepted: bool = False
    """Whether an instance with that UID was accepted at another time."""


def add(session: Session, rows: Sequence[RefusalRow], instances: Sequence[RefusedInstance]) -> None:
    """Add what a process counted."""
    if rows:
        session.run(
            _Q["add"],
            kinds=[r.kind.value for r in rows],
            reasons=[r.reason.value for r in rows],
            calling=[r.calling_ae_title for r in rows],
            called=[r.called_ae_title for r in rows],
            addresses=[r.remote_address for r in rows],
            counts=[r.count for r in rows],
            first=[r.first_at for r in rows],
            last=[r.last_at for r in rows],
            statuses=[r.status for r in rows],
            details=[r.detail for r in rows],
            uids=[r.last_uid for r in rows],
        )
    if instances:
        session.run(
            _Q["add_instances"],
            instances=[i.sop_instance_uid for i in instances],
            studies=[i.study_instance_uid for i in instances],
            calling=[i.calling_ae_title for i in instances],
            addresses=[i.remote_address for i in instances],
            reasons=[i.reason.value for i in instances],
            statuses=[i.status for i in instances],
            details=[i.detail for i in instances],
            counts=[i.count for i in instances],
            first=[i.first_at for i in instances],
            last=[i.last_at for i in instances],
        )


def page(
    session: Session,
    window: timedelta,
    *,
    limit: int = 1000,
    after: tuple[datetime, str] | None = None,
    calling_ae_title: str | None = None,
    newest: int | None = None,
) -> list[RefusalRow]:
    """Return who was turned away within `window`, one row for each peer and reason, the last one first.

    With `newest` only so many rows are read, each of a minute: the answer is quick, and its counts are lower.
    """
    return session.rows(
        RefusalRow,
        _Q["page"],
        window=window,
        limit=limit,
        last_at=None if after is None else after[0],
        id=None if after is None else after[1],
        calling=calling_ae_title,
        newest=newest,
    )


def has_more_than(session: Session, window: timedelta, count: int) -> bool:
    """Tell whether there are more rows within `window`."""
    return bool(session.value(_Q["has_more_than"], window=window, count=count))


def instances(session: Session, uid: str, *, limit: int = 1000) -> list[RefusedInstance]:
    """Return the refused instances with that SOP Instance or Study Instance UID, the last one first."""
    return session.rows(RefusedInstance, _Q["instances"], uid=uid, limit=limit)


def forget(session: Session, *, history: timedelta) -> int:
    """Delete some of what is too old or too much; return how many rows."""
    limits: dict[str, object] = {"most": MOST_ROWS, "limit": FORGET_AT_ONCE}
    deleted = session.run(_Q["forget"], kept=KEPT, **limits)
    return deleted + session.run(_Q["forget_instances"], kept=history, **limits)
