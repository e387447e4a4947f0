"""The debts: claimed by actors, settled with what the attempt came to, shown to operators."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.instances import StoredInstance
from gateway.domain.contract import EXPIRE_RESULT, FORWARD, FORWARD_TO_PACS, FORWARD_TO_WORKER
from gateway.domain.delivery import State
from gateway.domain.instance import Kind, Place
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route

_Q = load("deliveries")


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """A delivery that is the caller's until its lease is over; `claim_id` fences whoever comes late."""

    delivery_id: int
    claim_id: str
    attempts: int
    refusals: int
    owed_for: timedelta
    destination: str
    instance: StoredInstance


class WorkerVerdict(StrEnum):
    """What a claim for a worker came to; see claim_for_worker in migrations/0008_version_order.sql."""

    CLAIMED = "claimed"
    ANSWERED = "answered"
    NO_WORKER = "no_worker"
    NOTHING = "nothing"


class _ClaimForWorker(NamedTuple):
    verdict: WorkerVerdict
    claim_id: str | None
    worker: str | None


class ContextUids(NamedTuple):
    """What an instance needs of a presentation context."""

    sop_class_uid: str
    transfer_syntax_uid: str


class Changed(NamedTuple):
    """A delivery that an operator changed."""

    delivery_id: int
    instance_id: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an attempt came to, for the row. `wait` counts for PENDING, `result_wait` for a worker."""

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


@dataclass(frozen=True, slots=True)
class Settled:
    """Whether the claim was still held, the folders, and whether the peer has failures to end."""

    settled: bool
    place_before: Place | None
    place_after: Place | None
    peer_had_failed: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as an operator sees it."""

    delivery_id: int
    attempts: int
    redispatches: int
    priority: int
    owed_since: datetime
    next_attempt_at: datetime | None
    settled_at: datetime | None
    settled_by: str | None
    destination: str | None
    last_status: int | None
    last_error: str | None
    instance_id: int
    sop_instance_uid: str
    study_instance_uid: str
    conflict: bool
    file_name: str
    route: Route
    state: State
    kind: Kind
    place: Place
    waits_for: int | None
    """The delivery of another version of its SOP Instance UID that is sent first."""
    waits_for_version: int | None

    @property
    def waiting(self) -> str | None:
        """What it waits for, as a sentence; None where no other version is sent first."""
        return waits_for_version(self.waits_for_version, self.waits_for)


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """One try of a delivery; `fenced` ones came after the claim had passed to somebody else."""

    ended_at: datetime
    duration_ms: float
    destination: str
    outcome: str
    status: int | None
    error: str | None
    fenced: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """Which deliveries an operator means; None selects all."""

    delivery_id: int | None = None
    study: str | None = None
    state: State | None = None
    route: Route | None = None

    def parameters(self) -> dict[str, object]:
        """The selection as parameters of the statements that filter by it."""
        return {
            "delivery_id": self.delivery_id,
            "study": self.study,
            "state": None if self.state is None else self.state.value,
            "route": None if self.route is None else self.route.value,
        }


def waits_for_version(number: int | None, delivery_id: int | None) -> str | None:
    """The reason for operators why a delivery waits for that version of its SOP Instance UID."""
    return None if delivery_id is None else f"waits for version {number} (delivery {delivery_id})"


def claim(
    session: Session, delivery_id: int, *, consumer: int, lease: timedelta, destination: str
) -> DeliveryClaim | None:
    """Take a delivery for one attempt; None where the message has nothing to do.

    The first statement does not find an instance whose UID has several versions. Those are claimed in their
    order.
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
    """Take a delivery and choose its worker; the result that the worker will owe is noted with it."""
    chosen = session.only(
        _ClaimForWorker,
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
    if chosen.verdict is not WorkerVerdict.CLAIMED:
        return chosen.verdict, None
    # claimed in this transaction: the row is there
    return chosen.verdict, session.only(
        DeliveryClaim, _Q["claimed"], delivery_id=delivery_id, claim_id=chosen.claim_id
    )


def settle(session: Session, claim: DeliveryClaim, route: Route, settlement: Settlement) -> Settled:
    """Record what an attempt came to. Late, it is only appended to the attempts (`settled` False)."""
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


def renew(session: Session, claim: DeliveryClaim, *, lease: timedelta) -> bool:
    """The claim is believed for another lease from now; False where it has passed to somebody else."""
    return session.run(_Q["renew"], delivery_id=claim.delivery_id, claim_id=claim.claim_id, lease=lease) == 1


def waiting_contexts(session: Session, route: Route) -> list[ContextUids]:
    """(SOP Class UID, transfer syntax UID) of the oldest instances that wait on `route`, at most 127."""
    return session.rows(ContextUids, _Q["waiting_contexts"], route=route.value)


def taken_contexts(session: Session, destination: str) -> list[ContextUids]:
    """(SOP Class UID, transfer syntax UID) of instances that `destination` took lately, at most 40."""
    return session.rows(ContextUids, _Q["taken_contexts"], destination=destination)


def find(
    session: Session, selection: Selection, *, limit: int = 1000, after: int | None = None
) -> list[Delivery]:
    """The deliveries that `selection` means, newest first; those before the delivery `after`, if given."""
    return session.rows(Delivery, _Q["find"], **selection.parameters(), limit=limit, after=after)


def attempts_of(session: Session, delivery_id: int) -> list[PastAttempt]:
    """Every try of a delivery, oldest first."""
    return session.rows(PastAttempt, _Q["attempts_of"], delivery_id=delivery_id)


def cancel(session: Session, selection: Selection, *, by: str) -> list[Changed]:
    """(delivery id, instance id) of those that were pending or dead and are cancelled now."""
    return session.rows(Changed, _Q["cancel"], **selection.parameters(), by=by)


def requeue(session: Session, selection: Selection, *, of: tuple[State, ...]) -> list[Changed]:
    """(delivery id, instance id) of those that were in one of `of` and are owed again now."""
    return session.rows(
        Changed,
        _Q["requeue"],
        **selection.parameters(),
        from_states=[state.value for state in of],
        **_actor_names(),
    )


def retry_now(session: Session, selection: Selection) -> list[Changed]:
    """(delivery id, instance id) of those that waited for their time and are due now."""
    return session.rows(Changed, _Q["retry_now"], **selection.parameters(), **_actor_names())


def mend_places(session: Session, instance_ids: list[int]) -> list[int]:
    """The instances whose folder changed with the states of their deliveries; move their files."""
    return session.values(_Q["mend_place"], instance_ids=instance_ids)


def _actor_names() -> dict[str, str]:
    return {"pacs_actor": FORWARD_TO_PACS.actor_name, "worker_actor": FORWARD_TO_WORKER.actor_name}
