"""Make one attempt of one delivery that this process has claimed: send it, settle it, move its file, log it.

`gateway.forward.deliver` claims the delivery before, and `gateway.domain.outcome` decides what an outcome
means. Settling commits before the file is moved, so the row is right in every case. In an actor process a
plain success is handed over instead, and settled with others (`gateway.forward.settle_together`).

If the process dies
    before or in the C-STORE   the delivery stays in flight; another process gets its message and claims it
    before it is settled       the same; the peer gets the instance twice, which is harmless (G4)
    before the file is moved   readers look in every folder; reconcile moves the file
    after that                 the message runs again and finds nothing to do
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from gateway import log
from gateway.config.destination import Destination
from gateway.database.tables import instances
from gateway.database.tables.deliveries import DeliveryClaim, Settled, Settlement
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.wire import AbortedByPeerError, ClosedByPeerError
from gateway.domain.delivery import State
from gateway.domain.dimse_status import Status
from gateway.domain.outcome import Decision, Limits, Outcome, PeerHealth, decide
from gateway.domain.routing import Route, Target
from gateway.errors import GatewayError, PeerAwayError, SpoolError
from gateway.faults import Name
from gateway.forward.context import STAGE, ForwardContext
from gateway.forward.proposed_contexts import taken_contexts, waiting_contexts
from gateway.forward.renewal import Renewal
from gateway.forward.send_result import SEND_ERRORS, SendResult, milliseconds_since
from gateway.forward.sent import SentDelivery
from gateway.forward.settle import settle, settlement_of
from gateway.forward.source import DataSetSource
from gateway.forward.turns import Sending

_DOWN = {
    Route.PACS: Name.PACS_DOWN,
    Route.ARCHIVES: Name.ARCHIVE_DOWN,
    Route.WORKERS: Name.WORKER_DOWN,
}


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The outcome of an attempt, and whether the claim still held when it was settled."""

    outcome: Outcome
    settled: bool


class Attempt:
    """One attempt of one claimed delivery.

    `began` is a monotonic time before the claim was made. `sending` is the turn that the instance holds at
    an archive. `probing` means that the breaker of the peer is open, and that this instance tests the peer.
    """

    def __init__(
        self,
        context: ForwardContext,
        claim: DeliveryClaim,
        route: Route,
        destination: Destination,
        *,
        began: float,
        sending: Sending | None = None,
        probing: bool = False,
    ) -> None:
        self._context = context
        self._claim = claim
        self._route = route
        self._destination = destination
        self._probing = probing
        self._sending = sending
        self._renewal = Renewal(context, claim, began=began, sending=sending)

    def run(self) -> AttemptResult:
        """Send the instance and record what came of it.

        Raises:
            DatabaseError: a query during the attempt failed (for waiting contexts, or for other versions), or
                the outcome could not be recorded. The delivery is claimed again later.
        """
        result = self.send()
        decision = self._decide(result)
        if result.outcome is Outcome.NEVER and self._route.is_archive:
            self._context.ask_archives()  # it may accept other transfer syntaxes than before
        settlement = settlement_of(self._context.configuration.forwarder, self._claim, result, decision)
        sent = SentDelivery(self._claim, self._route, settlement)
        if self._may_wait(settlement, decision) and self._context.settle_later(sent):
            return AttemptResult(result.outcome, settled=True)
        # If the process dies before this commit, the instance is sent again (G4).
        settled, breaker_closed = settle(self._context, self._claim, self._route, settlement, decision)
        # The commit has written the new folder into the row. If the process dies here, reconcile moves the
        # file.
        move(self._context, self._claim, settled)
        log_attempt(self._context, sent, settled=settled.settled)
        if breaker_closed or (settlement.state is State.PENDING and not settlement.wait):
            # Waiting deliveries may be claimed again, or another worker may take this one at once.
            self._context.wakeup.wake(self._route)
        return AttemptResult(result.outcome, settled.settled)

    def send(self) -> SendResult:
        """Send the instance to its destination; return the status that it answered, or the error.

        Raises:
            UnknownSpoolError: the file cannot be read, because the folder is not the spool of the database.
                The delivery is claimed again later.
        """
        began = time.monotonic()
        try:
            status = self._store()
        except SEND_ERRORS as error:
            if isinstance(error, SpoolError | OSError):
                # If the disk is not mounted, the file is not lost: the delivery must not die of this.
                self._context.require_spool()
            return SendResult.of_error(error, milliseconds_since(began))
        instance = self._claim.instance
        sent = ProposedContext(instance.sop_class_uid, instance.transfer_syntax_uid)
        return SendResult.of_status(status, self._destination.ae_title, sent, milliseconds_since(began))

    def _store(self) -> int:
        """Send the data set by C-STORE; return the status that the peer answered."""
        context, instance = self._context, self._claim.instance
        if context.faults.peer_is_down(self._route):
            fault = _DOWN[self._route]
            raise PeerAwayError(f"{self._destination.ae_title} is away (fault {fault})")
        if self._route is Route.WORKERS and context.faults.worker_hangs():
            return Status.SUCCESS
        with DataSetSource(
            context.spool,
            instance,
            faults=context.faults,
            stage=STAGE[self._route],
            progress=self._renewal.note_progress,
        ) as source:
            status = self._store_on(source, fresh=False)
            if status is None:
                status = self._store_on(source, fresh=True)
        assert status is not None, "on a fresh association it is answered, or an error is raised"
        return status

    def _store_on(self, source: DataSetSource, *, fresh: bool) -> int | None:
        """Send on one association; return None if the peer had ended it while it was idle.

        A peer may end an idle association just as the next C-STORE begins. The instance is then sent once
        more, on a fresh association; both together count as one attempt. If the peer ends the fresh
        association, the instance may be the cause, so the error is raised. After a timeout nothing is sent
        again, because the lease does not cover two timeouts.
        """
        instance = self._claim.instance
        proposed = ProposedContext(instance.sop_class_uid, instance.transfer_syntax_uid)
        with self._context.associations.lend(
            self._destination,
            proposed,
            lambda: waiting_contexts(self._context, Target(self._route, self._claim.target)),
            likely=lambda: taken_contexts(self._context, self._destination),
            fresh=fresh,
        ) as lent:
            try:
                status, _ = lent.association.store(proposed, instance.sop_instance_uid, source)
            except (ClosedByPeerError, AbortedByPeerError):
                if lent.fresh:
                    raise
                return None
            self._renewal.note_answer()
            return status

    def _decide(self, result: SendResult) -> Decision:
        forwarder = self._context.configuration.forwarder
        return decide(
            result.outcome,
            refusals=self._claim.refusals,
            owed_for=self._claim.owed_for,
            conflict=self._has_conflict(result.outcome),
            limits=Limits(forwarder.max_retries, timedelta(hours=forwarder.give_up_after_hours)),
            error=result.error,
            probing=self._probing,
        )

    def _has_conflict(self, outcome: Outcome) -> bool:
        """Tell whether the peer may hold another version of this instance than ours.

        Query the database only after the answer 0x0111; no other answer needs it. Do not query earlier:
        another version may be received and sent during the C-STORE.
        """
        instance = self._claim.instance
        if outcome is not Outcome.ALREADY_THERE or instance.conflict:
            return instance.conflict
        with self._context.database.statement() as session:
            return instances.has_other_version(session, instance)

    def _may_wait(self, settlement: Settlement, decision: Decision) -> bool:
        """Tell whether others may be settled together with this attempt.

        They may if the peer just took the instance, and nobody waits for its end: no probe, no suspect, no
        parked instance.
        """
        return (
            settlement.outcome is Outcome.DELIVERED
            and settlement.error is None
            and decision.peer is PeerHealth.WORKS
            and not self._probing
            and (self._sending is None or self._context.turns.is_ordinary(self._claim, self._sending))
        )


def log_attempt(context: ForwardContext, sent: SentDelivery, *, settled: bool) -> None:
    """Log an attempt: its outcome word is the new state, or `fenced` if the claim no longer held."""
    claim, settlement = sent.claim, sent.settlement
    level: log.Level = "info"
    if settlement.state is not State.DELIVERED:
        level = "error" if settlement.state is State.DEAD else "warning"
    log.write(
        STAGE[sent.route],
        settlement.state.value if settled else "fenced",
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


def move(context: ForwardContext, claim: DeliveryClaim, settled: Settled) -> None:
    """Move the file of an instance to the folder that its row names now."""
    if settled.place_after is None or settled.place_after is settled.place_before:
        return
    # Safe to ignore: readers look in every folder, and reconcile moves the file later.
    with suppress(GatewayError):
        context.spool.move(
            settled.place_after,
            claim.instance.study_instance_uid,
            claim.instance.file_name,
            was=settled.place_before,
        )
