"""Units: series or studies that an application gets whole. Actors claim, send and settle them.

The sweep repairs what a crash left of them. shown_units.py is the other half: what operators see of units.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.instances import StoredInstance
from gateway.database.tables.results import Expiry
from gateway.domain.contract import EXPIRE_UNIT
from gateway.domain.outcome import Outcome
from gateway.domain.unit import UnitState

_Q = load("units")


class UnitVerdict(StrEnum):
    """The result of a claim; see functions/claim_unit.sql."""

    CLAIMED = "claimed"
    COLLECTING = "collecting"
    NO_WORKER = "no_worker"
    NOTHING = "nothing"


class UnitClaim(NamedTuple):
    """A claim, if the verdict is CLAIMED: the unit is to be sent whole to `worker`."""

    verdict: UnitVerdict
    claim_id: str | None
    worker: str | None


class Unit(NamedTuple):
    """A unit as its sender sees it. `owed_for` is the time since it was complete."""

    unit_id: int
    application: str
    unit: str
    study_instance_uid: str
    uid: str
    generation: int
    state: UnitState
    completed_by: str | None
    failures: int
    redispatches: int
    owed_for: timedelta


class Member(NamedTuple):
    """One instance of a unit."""

    delivery_id: int
    instance: StoredInstance


class MemberOutcome(NamedTuple):
    """What the worker answered for one instance of a unit."""

    delivery_id: int
    outcome: Outcome
    status: int | None
    error: str | None
    duration_ms: float


class UnitSettlement(NamedTuple):
    """What became of sending a unit.

    `sent`: every instance was answered. Else the unit is sent again after `wait`, or is dead with `give_up`.
    `last_began` is when the last instance began to be sent.
    """

    sent: bool
    outcome: str
    error: str | None
    last_began: datetime
    members: Sequence[MemberOutcome] = ()
    give_up: bool = False
    counted: bool = False
    wait: timedelta = timedelta()
    result_wait: timedelta = timedelta()


class ExpiredUnit(NamedTuple):
    """A deadline that was checked."""

    verdict: Expiry
    worker: str | None
    application: str | None
    study_instance_uid: str | None


class UnitAnswer(NamedTuple):
    """What a result answered. `is_older`: it is the result of an older generation."""

    answered: int
    late: bool
    is_older: bool


def claim(
    session: Session,
    unit_id: int,
    *,
    consumer: int,
    lease: timedelta,
    unregistered_since: datetime | None,
    wait: timedelta,
) -> UnitClaim:
    """Claim a unit if it is complete, and choose its worker.

    `unregistered_since` is the time of the oldest reception that is not registered: it may be of the unit.
    """
    return session.only(
        UnitClaim,
        _Q["claim"],
        unit_id=unit_id,
        consumer=consumer,
        lease=lease,
        unregistered_since=unregistered_since,
        wait=wait,
    )


def get(session: Session, unit_id: int) -> Unit | None:
    """Return a unit; None if it was deleted."""
    return session.row(Unit, _Q["get"], unit_id=unit_id)


def members(session: Session, unit_id: int) -> list[Member]:
    """Return the instances that are sent with a unit, in the order in which they were registered."""
    return session.rows(Member, _Q["members"], unit_id=unit_id)


def renew(session: Session, unit_id: int, claim_id: str, *, lease: timedelta) -> bool:
    """Extend the claim by a lease from now; return False where another process has claimed the unit."""
    return session.run(_Q["renew"], unit_id=unit_id, claim_id=claim_id, lease=lease) == 1


def settle(session: Session, unit_id: int, claim_id: str, settlement: UnitSettlement) -> bool:
    """Record what became of sending a unit; return False if the claim was lost."""
    found = settlement.members
    return bool(
        session.value(
            _Q["settle"],
            unit_id=unit_id,
            claim_id=claim_id,
            sent=settlement.sent,
            give_up=settlement.give_up,
            counted=settlement.counted,
            outcome=settlement.outcome,
            error=settlement.error,
            wait=settlement.wait,
            result_wait=settlement.result_wait,
            last_began=settlement.last_began,
            expire_actor_name=EXPIRE_UNIT.actor_name,
            expire_queue=EXPIRE_UNIT.queue_name,
            delivery_ids=[one.delivery_id for one in found],
            outcomes=[one.outcome.value for one in found],
            statuses=[one.status for one in found],
            errors=[one.error for one in found],
            durations=[one.duration_ms for one in found],
        )
    )


def expire(session: Session, unit_id: int, *, max_redispatch: int) -> ExpiredUnit:
    """Check the deadline of a unit's result; if it has passed, ask another worker or give the result up."""
    return session.only(
        ExpiredUnit,
        _Q["expire"],
        unit_id=unit_id,
        max_redispatch=max_redispatch,
        expire_actor_name=EXPIRE_UNIT.actor_name,
        expire_queue=EXPIRE_UNIT.queue_name,
    )


def answer(
    session: Session,
    result_id: int,
    *,
    source_ids: Iterable[int] = (),
    studies: Iterable[str] = (),
    workers: Sequence[str],
) -> UnitAnswer:
    """Mark the units as answered that a result was derived from."""
    return session.only(
        UnitAnswer,
        _Q["answer"],
        result_id=result_id,
        source_ids=list(source_ids),
        studies=list(studies),
        workers=list(workers),
    )


def silent(session: Session, *, grace: timedelta, lease: timedelta, limit: int) -> list[int]:
    """Return the units that are due for longer than `grace` and have no message."""
    return session.values(_Q["silent"], grace=grace, lease=lease, limit=limit)


def look_earlier(session: Session) -> int:
    """Make due earlier what looks at units that are complete earlier by the present configuration."""
    return session.run(_Q["look_earlier"])


def send_message(session: Session, unit_id: int) -> None:
    """Write a new message for a unit that lost its own."""
    session.run(_Q["send_message"], unit_id=unit_id)


def overdue(session: Session, *, grace: timedelta, limit: int) -> list[int]:
    """Return the units whose result has been overdue for longer than `grace`, oldest first."""
    return session.values(_Q["overdue"], grace=grace, limit=limit)


def misplaced(session: Session, *, grace: timedelta, limit: int) -> list[int]:
    """Return instances of sent units whose folder in the row is not corrected."""
    return session.values(_Q["misplaced"], grace=grace, limit=limit)


def end_removed(session: Session) -> None:
    """Cancel the units of removed applications of which nothing is collected any more."""
    session.run(_Q["complete_removed"])
    session.run(_Q["cancel_removed"])


def forget(session: Session, *, retention: timedelta, limit: int) -> int:
    """Delete settled units of which no instance is kept; return how many."""
    return session.run(_Q["forget"], retention=retention, limit=limit)
