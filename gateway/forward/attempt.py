"""One attempt of one delivery: claim, C-STORE, settle (design.md §7).

The row is the truth, the message only wakes: where the delivery is settled, or somebody else's, there is
nothing to do. What an outcome means stands in `gateway.domain.outcome`.

If the process dies
    before the claim    the message is run by another
    before the C-STORE  the delivery is in flight with a dead consumer: claimed again at once
    before the settle   the same; the peer gets the instance twice, which is harmless (G4)
    after the settle    the message is run again and finds nothing to do
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from gateway import log
from gateway.config import Configuration, Destination
from gateway.database.connection import Database
from gateway.database.tables import deliveries, destinations, instances
from gateway.database.tables.deliveries import DeliveryClaim, Settled, Settlement, WorkerVerdict
from gateway.database.wakeup import Wakeup
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.wire import AbortedByPeerError, ClosedByPeerError
from gateway.domain.backoff import delay
from gateway.domain.delivery import Event, State
from gateway.domain.dimse_status import Status, meaning_of
from gateway.domain.outcome import OUTCOME_OF, Decision, Limits, Outcome, PeerHealth, decide
from gateway.domain.routing import BEHIND, Route
from gateway.errors import (
    AssociationBrokenError,
    AssociationsBusyError,
    ClaimLostError,
    ContextNotAcceptedError,
    ContextRefusedError,
    DatabaseError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    FileMissingError,
    GatewayError,
    PeerAwayError,
    SpoolError,
    StorageNotAcceptedError,
)
from gateway.faults import Faults, Name
from gateway.forward.associations import Associations
from gateway.forward.source import DataSetSource
from gateway.forward.turns import Sending, Turns
from gateway.log import Stage
from gateway.spool.spool import Spool

STAGE = {Route.PACS: Stage.FORWARD_PACS, Route.WORKERS: Stage.FORWARD_WORKER}
NO_WORKER_SECONDS = 1.0
"""How long a delivery waits that found every worker taken; the queue's room keeps this rare."""

CROWDED_SECONDS = 2.0
"""How long a delivery waits that found every association in use by larger ones."""

RENEWALS_PER_LEASE = 3
"""Two renewals may fail before a claim is believed no longer."""

SAYS = {
    Outcome.DELIVERED: "it has it",
    Outcome.ALREADY_THERE: "it holds that SOP Instance UID already",
    Outcome.NOT_NOW: "not now",
    Outcome.REFUSED: "it refuses this instance",
    Outcome.NEVER: "it does not take this SOP Class",
}

OUTCOME_OF_ERROR: dict[type[Exception], Outcome] = {
    PeerAwayError: Outcome.AWAY,
    AssociationsBusyError: Outcome.CROWDED,
    ClaimLostError: Outcome.OVERTAKEN,
    ContextNotAcceptedError: Outcome.NEVER,
    ContextRefusedError: Outcome.REFUSED,
    StorageNotAcceptedError: Outcome.TAKES_NOTHING,
    AssociationBrokenError: Outcome.BROKEN,
    FileMissingError: Outcome.LOST_FILE,
    SpoolError: Outcome.NOT_READ,
    OSError: Outcome.NOT_READ,
}
"""The first that fits: a file that is missing is a SpoolError too."""

_STATE_AFTER = {Event.DELIVER: State.DELIVERED, Event.RETRY: State.PENDING, Event.DIE: State.DEAD}


@dataclass(frozen=True, slots=True)
class ForwardContext:
    """What the actors of one process work with. `consumer` is the id under which deliveries are claimed."""

    configuration: Configuration
    database: Database
    spool: Spool
    associations: Associations
    wakeup: Wakeup
    faults: Faults
    consumer: Callable[[], int]
    turns: Turns = field(default_factory=Turns)


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What the peer made of one C-STORE, or why there was none."""

    outcome: Outcome
    status: int | None
    error: str
    duration_ms: float


def forward_to_pacs(context: ForwardContext, delivery_id: int, *, probing: bool = False) -> Outcome | None:
    """One attempt at the PACS; None where there was nothing to do, CROWDED where it is not its turn.

    `probing` says that its breaker is open, and this instance tries whether it is back.
    """
    destination = context.configuration.forwarder.orthanc
    outcome, settled = None, False
    began = time.monotonic()
    while not settled and (claim := _claim_for_pacs(context, delivery_id, destination)) is not None:
        # Fenced, because somebody else has it, and then there is nothing to claim; or because a crash of
        # PostgreSQL undid the claim. Then nobody has it, and when this message ends it has none.
        outcome, settled = _attempt_in_turn(context, claim, destination, began=began, probing=probing)
        began = time.monotonic()
    return outcome


def _attempt_in_turn(
    context: ForwardContext, claim: DeliveryClaim, destination: Destination, *, began: float, probing: bool
) -> tuple[Outcome, bool]:
    most = context.configuration.forwarder.max_associations_per_peer
    with context.turns.take(context.database, claim, most=most) as turn:
        if isinstance(turn, Sending):
            outcome, settled = _attempt(
                context, claim, Route.PACS, destination, turn, began=began, probing=probing
            )
    # Its turn is over: in the database since it was settled or parked, in this process since the line above.
    if isinstance(turn, Sending):
        called = context.turns.note_outcome(context.database, claim, turn, outcome)
    else:
        outcome, settled = Outcome.CROWDED, turn.settled
        _move(context, claim, turn)
        called = context.turns.note_parked(context.database, claim)
    if called:
        context.wakeup.wake(Route.PACS)
    return outcome, settled


def _claim_for_pacs(
    context: ForwardContext, delivery_id: int, destination: Destination
) -> DeliveryClaim | None:
    # A claim that a crash of PostgreSQL undoes is a harmless repeat: not worth a flush.
    with context.database.statement(durable=False) as session:
        return deliveries.claim(
            session,
            delivery_id,
            consumer=context.consumer(),
            lease=timedelta(seconds=context.configuration.forwarder.lease_seconds),
            destination=destination.ae_title,
        )


def forward_to_worker(context: ForwardContext, delivery_id: int) -> Outcome | None:
    """One attempt at the worker whose turn it is; None where there was nothing to do, or nobody free."""
    forwarder = context.configuration.forwarder
    by_study = forwarder.worker_affinity == "study"
    began = time.monotonic()
    with context.database.transaction() as session:
        verdict, claim = deliveries.claim_for_worker(
            session,
            delivery_id,
            consumer=context.consumer(),
            lease=timedelta(seconds=forwarder.lease_seconds),
            result_wait=timedelta(seconds=forwarder.worker_timeout_seconds),
            by_study=by_study,
            wait=timedelta(seconds=NO_WORKER_SECONDS),
        )
    if by_study:
        # It may have called others of its study, or scout for their worker in a moment (migration 0007).
        context.wakeup.wake(Route.WORKERS)
    if claim is None:
        if verdict is WorkerVerdict.ANSWERED:
            log.write(Stage.FORWARD_WORKER, "answered_before", delivery_id=delivery_id)
        return None
    destination = context.configuration.destination(claim.destination)
    outcome, _ = _attempt(context, claim, Route.WORKERS, destination, began=began)
    return outcome


def _attempt(
    context: ForwardContext,
    claim: DeliveryClaim,
    route: Route,
    destination: Destination,
    sending: Sending | None = None,
    *,
    began: float,
    probing: bool = False,
) -> tuple[Outcome, bool]:
    """What came of it, and whether the claim still held. `began` is a time before the claim was made."""
    renewal = _Renewal(context, claim, destination.ae_title, began, sending)
    tried = _try(context, claim, route, destination, renewal)
    forwarder = context.configuration.forwarder
    decision = decide(
        tried.outcome,
        refusals=claim.refusals,
        owed_for=claim.owed_for,
        conflict=_conflicts(context, claim, tried.outcome),
        limits=Limits(forwarder.max_retries, timedelta(hours=forwarder.give_up_after_hours)),
        error=tried.error,
        probing=probing,
    )
    settlement = _settlement(context, claim, destination, tried, decision)
    settled, changed = _settle(context, claim, route, settlement, decision)
    _move(context, claim, settled)
    _tell(context, claim, route, settlement, settled)
    if changed or (settlement.state is State.PENDING and not settlement.wait):
        # a breaker closed, or another worker may take it at once
        context.wakeup.wake(route)
    return tried.outcome, settled.settled


def _conflicts(context: ForwardContext, claim: DeliveryClaim, outcome: Outcome) -> bool:
    """Whether the version that the peer holds may be another one than this.

    Asked after the answer 0x0111, the only one that needs to know: no other attempt pays for it, and a
    version that was received and sent while this one was on its way counts, which no claim could see.
    """
    if outcome is not Outcome.ALREADY_THERE or claim.instance.conflict:
        return claim.instance.conflict
    with context.database.statement() as session:
        return instances.has_other_version(session, claim.instance)


# ---- C-STORE -------------------------------------------------------------------------------------


def _try(
    context: ForwardContext, claim: DeliveryClaim, route: Route, destination: Destination, renewal: "_Renewal"
) -> AttemptResult:
    began = time.monotonic()

    def tried(outcome: Outcome, error: str = "", status: int | None = None) -> AttemptResult:
        return AttemptResult(outcome, status, error, (time.monotonic() - began) * 1000)

    try:
        status = _store(context, claim, route, destination, renewal)
    except tuple(OUTCOME_OF_ERROR) as error:
        kind = next(kind for kind in OUTCOME_OF_ERROR if isinstance(error, kind))
        return tried(OUTCOME_OF_ERROR[kind], str(error))
    outcome = OUTCOME_OF[meaning_of(status)]
    # Its ErrorComment stays out: a peer may quote the patient there (G8).
    sentence = f"{destination.ae_title} answered 0x{status:04X}: {SAYS[outcome]}"
    return tried(outcome, "" if outcome is Outcome.DELIVERED else sentence, status)


def _store(
    context: ForwardContext, claim: DeliveryClaim, route: Route, destination: Destination, renewal: "_Renewal"
) -> int:
    instance = claim.instance
    if context.faults.peer_is_down(route):
        fault = Name.PACS_DOWN if route is Route.PACS else Name.WORKER_DOWN
        raise PeerAwayError(f"{destination.ae_title} is away (fault {fault})")
    if route is Route.WORKERS and context.faults.worker_hangs():
        return Status.SUCCESS
    proposed = ProposedContext(instance.sop_class_uid, instance.transfer_syntax_uid)
    with DataSetSource(
        context.spool, instance, faults=context.faults, stage=STAGE[route], progress=renewal
    ) as source:
        for fresh in (False, True):
            with context.associations.lend(
                destination,
                proposed,
                lambda: waiting_contexts(context, route),
                likely=lambda: taken_contexts(context, destination),
                fresh=fresh,
            ) as lent:
                try:
                    status, _ = lent.association.store(proposed, instance.sop_instance_uid, source)
                except (ClosedByPeerError, AbortedByPeerError):
                    # A peer may have ended an association that was idle just as we began; once, on a
                    # fresh one, is no second attempt. On a fresh one it says something of the instance.
                    # A timeout is another matter: the lease does not cover two of them.
                    if lent.fresh:
                        raise
                else:
                    renewal.note_answer()
                    return status
    raise AssertionError("unreachable")


class _Renewal:
    """Renews the claim while bytes flow: a lease bounds silence, not the size of an instance.

    A process that was stopped for longer than its lease finds here that the delivery is somebody else's. It
    breaks off before the next bytes, so that it completes no version after a newer one was sent.
    """

    def __init__(
        self,
        context: ForwardContext,
        claim: DeliveryClaim,
        ae_title: str,
        began: float,
        sending: Sending | None,
    ) -> None:
        self._sending = sending
        self._context = context
        self._claim = claim
        self._ae_title = ae_title
        self._lease = timedelta(seconds=context.configuration.forwarder.lease_seconds)
        self._due = began + self._lease.total_seconds() / RENEWALS_PER_LEASE

    def __call__(self) -> None:
        """Called before each piece of the data set; renews when it is time.

        Raises:
            ClaimLostError: the claim has passed to somebody else, or a crash of PostgreSQL undid it.
        """
        self._context.associations.note_progress(self._ae_title)
        if self._sending is not None:
            self._sending.note_progress()
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._lease.total_seconds() / RENEWALS_PER_LEASE
        held = True
        # Without PostgreSQL the send goes on: at worst it is repeated, which is harmless (G4).
        with suppress(DatabaseError), self._context.database.statement() as session:
            held = deliveries.renew(session, self._claim, lease=self._lease)
        if not held:
            raise ClaimLostError("its claim passed to another process: the attempt was broken off")

    def note_answer(self) -> None:
        """Note when the peer answered, for its usual time."""
        if self._sending is not None:
            self._sending.note_answer()


def waiting_contexts(context: ForwardContext, route: Route) -> list[ProposedContext]:
    """What the instances that wait on a route need to be proposed."""
    with context.database.statement() as session:
        return [ProposedContext(*pair) for pair in deliveries.waiting_contexts(session, route)]


def taken_contexts(context: ForwardContext, destination: Destination) -> list[ProposedContext]:
    """What a peer accepted of late."""
    with context.database.statement() as session:
        return [ProposedContext(*pair) for pair in deliveries.taken_contexts(session, destination.ae_title)]


# ---- settle --------------------------------------------------------------------------------------


def _settlement(
    context: ForwardContext,
    claim: DeliveryClaim,
    destination: Destination,
    tried: AttemptResult,
    decision: Decision,
) -> Settlement:
    forwarder = context.configuration.forwarder
    wait = timedelta(seconds=CROWDED_SECONDS if tried.outcome is Outcome.CROWDED else 0)
    if decision.event is Event.RETRY and decision.counted:
        wait = delay(
            claim.attempts + 1,
            timedelta(seconds=forwarder.backoff_base_seconds),
            timedelta(seconds=forwarder.backoff_max_seconds),
            random.random,
        )
    # Where the peer is away no attempt is counted: its breaker is open now, and the queue holds the
    # message back until it closes, so it may be due at once.
    return Settlement(
        state=_STATE_AFTER[decision.event],
        counted=decision.counted,
        refused=decision.refused,
        outcome=tried.outcome,
        destination=destination.ae_title,
        status=tried.status,
        error=decision.reason or None,
        duration_ms=tried.duration_ms,
        wait=wait,
        priority=BEHIND if decision.behind else None,
        result_wait=timedelta(seconds=forwarder.worker_timeout_seconds),
    )


def _settle(
    context: ForwardContext, claim: DeliveryClaim, route: Route, settlement: Settlement, decision: Decision
) -> tuple[Settled, bool]:
    """Settle, for as long as the claim holds: the peer has answered, and asking it again is a repeat."""
    limit = time.monotonic() + context.configuration.forwarder.lease_seconds / 2
    wait = 0.1
    while True:
        try:
            return _settle_once(context, claim, route, settlement, decision)
        except (DatabaseUnavailableError, DatabaseRefusedError) as error:
            collided = isinstance(error, DatabaseRefusedError) and error.is_collision
            if time.monotonic() > limit or not (collided or isinstance(error, DatabaseUnavailableError)):
                raise
            log.write(
                Stage.DB, "settle_waits", level="warning", error=str(error), delivery_id=claim.delivery_id
            )
            time.sleep(wait)
            wait = min(wait * 2, 2.0)


def _settle_once(
    context: ForwardContext, claim: DeliveryClaim, route: Route, settlement: Settlement, decision: Decision
) -> tuple[Settled, bool]:
    forwarder = context.configuration.forwarder
    if decision.peer in {PeerHealth.IS_WELL, PeerHealth.SAYS_NOTHING}:
        with context.database.statement() as session:
            settled = deliveries.settle(session, claim, route, settlement)
            closed = (
                decision.peer is PeerHealth.IS_WELL
                and settled.peer_had_failed
                # Without a status no C-STORE was answered: a context that it declines, for one.
                and destinations.note_well(
                    session, settlement.destination, by_store=settlement.status is not None
                )
            )
        if closed:
            log.write(STAGE[route], "breaker_closed", destination=settlement.destination)
        return settled, closed
    # In one transaction: a breaker never stands open without the message of its probe.
    with context.database.transaction() as session:
        settled = deliveries.settle(session, claim, route, settlement)
        opened = destinations.note_failure(
            session,
            settlement.destination,
            route,
            instance_id=claim.instance.instance_id,
            reason=settlement.error or settlement.outcome.value,
            at_once=decision.peer is PeerHealth.IS_AWAY,
            probe_by_store=decision.by_store,
            threshold=forwarder.breaker_failures,
            probe_wait=timedelta(seconds=forwarder.probe_interval_seconds),
            siblings_are_one=route is Route.PACS and settlement.outcome is Outcome.BROKEN,
        )
    if opened:
        log.write(
            STAGE[route],
            "breaker_opened",
            level="error",
            destination=settlement.destination,
            error=settlement.error,
        )
    return settled, False


def _move(context: ForwardContext, claim: DeliveryClaim, settled: Settled) -> None:
    if settled.place_after is None or settled.place_after is settled.place_before:
        return
    # The row says where; a file that cannot be moved now is found where it is, and moved by reconcile.
    with suppress(GatewayError):
        context.spool.move(
            settled.place_after,
            claim.instance.study_instance_uid,
            claim.instance.file_name,
            was=settled.place_before,
        )


def _tell(
    context: ForwardContext, claim: DeliveryClaim, route: Route, settlement: Settlement, settled: Settled
) -> None:
    level: log.Level = "info"
    if settlement.state is not State.DELIVERED:
        level = "error" if settlement.state is State.DEAD else "warning"
    log.write(
        STAGE[route],
        settlement.state.value if settled.settled else "fenced",
        level=level,
        study_instance_uid=claim.instance.study_instance_uid,
        sop_instance_uid=claim.instance.sop_instance_uid,
        calling_ae_title=context.configuration.edge.ae_title,
        called_ae_title=settlement.destination,
        destination=settlement.destination,
        status=settlement.status,
        error=settlement.error,
        detail=settlement.outcome.value,
        attempt=claim.attempts + 1,
        next_in_seconds=settlement.wait.total_seconds() if settlement.state is State.PENDING else None,
        duration_ms=settlement.duration_ms,
        delivery_id=claim.delivery_id,
        instance_id=claim.instance.instance_id,
    )
