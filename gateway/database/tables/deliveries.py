"""The deliveries as actors see them: claim one, settle it with the outcome, renew its lease.

selected_deliveries.py is the other half: operators see deliveries and change them.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.instances import StoredInstance
from gateway.domain.contract import EXPIRE_RESULT, FORWARD, FORWARD_TO_WORKER
from gateway.domain.delivery import State
from gateway.domain.instance import Place
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route, Target

_Q = load("deliveries")


class DeliveryClaim(NamedTuple):
    """A delivery that the caller holds until its lease ends; a late settle does not match the `claim_id`."""

    delivery_id: int
    claim_id: str
    attempts: int
    refusals: int
    owed_for: timedelta
    destination: str
    target: str
    """The AE title of an archive, or the name of an application; see gateway/domain/routing.py."""
    instance: StoredInstance


class WorkerVerdict(StrEnum):
    """The result of a claim for a worker; see functions/claim_for_worker.sql."""

    CLAIMED = "claimed"
    ANSWERED = "answered"
    NO_WORKER = "no_worker"
    NOTHING = "nothing"


class _WorkerClaim(NamedTuple):
    """The row of a claim for a worker; `claim` has only NULLs unless the verdict is CLAIMED."""

    verdict: WorkerVerdict
    claim: DeliveryClaim


class ContextUids(NamedTuple):
    """The UIDs of the presentation context that an instance needs."""

    sop_class_uid: str
    transfer_syntax_uid: str


class Settlement(NamedTuple):
    """The outcome of an attempt, for the row. `wait` is used with PENDING, `result_wait` for a worker."""

    state: State
    counted: bool
    refused: bool
    outcome: Outcome
    destination: str
    status: int | None
    error: str | None
    duration_ms: float
    wait: timedelta = timedelta()
    priority: int | None = None
    result_wait: timedelta = timedelta()


class Settled(NamedTuple):
    """Whether the claim was held, the old and new folder, and whether the peer has failures to reset."""

    settled: bool
    place_before: Place | None
    place_after: Place | None
    peer_had_failed: bool


class Delivered(NamedTuple):
    """A delivery that its peer took, and its message: id, consumer and time of the claim."""

    claim: DeliveryClaim
    settlement: Settlement
    message_id: str
    consumer: int
    claimed_at: datetime


class _SettledTogether(NamedTuple):
    """A row of `settle_together`; not `done` is left to `settle`."""

    done: bool
    settled: Settled


def claim(
    session: Session, delivery_id: int, *, consumer: int, lease: timedelta, destination: str
) -> DeliveryClaim | None:
    """Claim a delivery for one attempt; return None where there is nothing to do.

    The first statement leaves out an instance whose UID has several versions; claim_version claims those in
    their order.
    """
    parameters: dict[str, object] = {
        "delivery_id": delivery_id,
        "consumer": consumer,
        "lease": lease,
        "destination": destination,
    }
    claim = session.row(DeliveryClaim, _Q["claim"], **parameters)
    if claim is None:
        claim_id = session.value(_Q["claim_version"], **parameters)
        if claim_id is not None:
            claim = session.row(DeliveryClaim, _Q["claimed"], delivery_id=delivery_id, claim_id=claim_id)
    return claim


def claim_for_worker(
    session: Session,
    delivery_id: int,
    *,
    consumer: int,
    lease: timedelta,
    result_wait: timedelta,
    by_study: bool,
    wait: timedelta,
) -> tuple[WorkerVerdict, DeliveryClaim | None]:
    """Claim a delivery, choose its worker, and write down the result that is expected of it."""
    found = session.only(
        _WorkerClaim,
        _Q["claim_for_worker"],
        delivery_id=delivery_id,
        consumer=consumer,
        lease=lease,
        result_wait=result_wait,
        by_study=by_study,
        wait=wait,
        actor_name=FORWARD_TO_WORKER.actor_name,
        expire_actor_name=EXPIRE_RESULT.actor_name,
        expire_queue=EXPIRE_RESULT.queue_name,
    )
    return found.verdict, found.claim if found.verdict is WorkerVerdict.CLAIMED else None


def settle(session: Session, claim: DeliveryClaim, route: Route, settlement: Settlement) -> Settled:
    """Record the outcome of an attempt. If the claim was lost, only append the outcome to the attempts."""
    return session.only(
        Settled,
        _Q["settle"],
        delivery_id=claim.delivery_id,
        claim_id=claim.claim_id,
        state=settlement.state.value,
        counted=settlement.counted,
        refused=settlement.refused,
        wait=settlement.wait,
        priority=settlement.priority,
        destination=settlement.destination,
        outcome=settlement.outcome.value,
        status=settlement.status,
        error=settlement.error,
        duration_ms=settlement.duration_ms,
        actor_name=FORWARD[route].actor_name,
        result_wait=settlement.result_wait,
    )


def settle_together(session: Session, batch: Sequence[Delivered]) -> list[Settled | None]:
    """Settle several as delivered, and delete their messages; return None for those to `settle` alone.

    The message of a claim that was lost is kept.
    """
    rows = session.rows(
        _SettledTogether,
        _Q["settle_together"],
        delivery_ids=[one.claim.delivery_id for one in batch],
        claim_ids=[one.claim.claim_id for one in batch],
        instance_ids=[one.claim.instance.instance_id for one in batch],
        destinations=[one.settlement.destination for one in batch],
        statuses=[one.settlement.status for one in batch],
        durations=[one.settlement.duration_ms for one in batch],
        result_waits=[one.settlement.result_wait for one in batch],
        message_ids=[one.message_id for one in batch],
        consumers=[one.consumer for one in batch],
        claimed_at=[one.claimed_at for one in batch],
    )
    return [row.settled if row.done else None for row in rows]


def renew(session: Session, claim: DeliveryClaim, *, lease: timedelta) -> bool:
    """Extend the claim by a lease from now; return False where another process has claimed the delivery."""
    return session.run(_Q["renew"], delivery_id=claim.delivery_id, claim_id=claim.claim_id, lease=lease) == 1


def target_of(session: Session, delivery_id: int) -> str | None:
    """Return the name of the target of a delivery; None if it was purged."""
    name: str | None = session.value(_Q["target_of"], delivery_id=delivery_id)
    return name


def waiting_contexts(session: Session, target: Target) -> list[ContextUids]:
    """Return the UIDs of the oldest instances that are owed to `target`, each pair once, at most 127."""
    return session.rows(ContextUids, _Q["waiting_contexts"], route=target.route.value, target=target.name)


def taken_contexts(session: Session, destination: str) -> list[ContextUids]:
    """Return the UIDs of instances that `destination` took lately, each pair once, at most 40."""
    return session.rows(ContextUids, _Q["taken_contexts"], destination=destination)


def mend_places(session: Session, instance_ids: list[int]) -> list[int]:
    """Correct the folders in the rows; return the instances whose files the caller must move.

    It waits first for a settlement that has locked an instance: `mend_place` then sees its delivery.
    """
    if not instance_ids:
        return []
    session.run(_Q["lock_instances"], instance_ids=instance_ids)
    return session.values(_Q["mend_place"], instance_ids=instance_ids)
