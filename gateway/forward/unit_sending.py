"""Send a unit whole to one worker: its instances one after the other, on one association.

An association has at most 128 presentation contexts (PS3.8 §9.3.2.2). A unit that needs more is sent on
several associations, one after the other.

    the worker refuses an instance           the rest is sent; this instance is not sent again
    the file of an instance is lost          that ends the association; the others are sent on a new one
    the worker says "not now", goes away,    the unit is to be sent again, whole, maybe to another worker
    aborts, or does not answer in time

If the process dies, the unit stays `sending`. Another process gets its message within 4 s, claims the unit,
and sends it whole. The worker then gets instances twice, which is harmless (G4).
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from gateway.config.destination import Destination
from gateway.database.tables.instances import StoredInstance
from gateway.database.tables.units import Member, MemberOutcome
from gateway.dicom.association import Association
from gateway.dicom.contexts import MAX_CONTEXTS, ProposedContext
from gateway.domain.dimse_status import Status
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.errors import ContextRefusedError, PeerAwayError, SpoolError
from gateway.faults import Name
from gateway.forward.context import STAGE, ForwardContext
from gateway.forward.proposed_contexts import taken_contexts
from gateway.forward.renewal import Lease
from gateway.forward.send_result import SEND_ERRORS, SendResult, milliseconds_since
from gateway.forward.source import DataSetSource

DELIVERED = frozenset({Outcome.DELIVERED, Outcome.ALREADY_THERE})
REFUSED = frozenset({Outcome.REFUSED, Outcome.NEVER, Outcome.LOST_FILE})
"""The worker does not get this instance, but the rest of the unit. Every other outcome ends the sending."""


class UnitSending:
    """One attempt to send a unit. `outcomes` holds each answer by delivery; `last_began` is a wall time."""

    def __init__(self, context: ForwardContext, destination: Destination, lease: Lease) -> None:
        self._context = context
        self._destination = destination
        self._lease = lease
        self.outcomes: dict[int, MemberOutcome] = {}
        self.last_began = datetime.now(UTC)

    def send(self, members: Sequence[Member]) -> SendResult:
        """Send all members; return the result that ended it, or a delivered one if each was answered."""
        began = time.monotonic()
        left = list(members)
        while True:
            end = self._send_on_associations(left)
            if end is None:
                return SendResult(Outcome.DELIVERED, Status.SUCCESS, "", milliseconds_since(began))
            lost = {one.delivery_id for one in self.outcomes.values() if one.outcome in REFUSED}
            if end.outcome not in REFUSED:
                return end
            left = [one for one in left if one.delivery_id not in lost]

    def _send_on_associations(self, members: Sequence[Member]) -> SendResult | None:
        """Send on as few associations as possible; return None if each instance was answered."""
        for group in _by_contexts(members):
            began = time.monotonic()
            try:
                end = self._send_group(group)
            except ContextRefusedError as error:
                # It refuses associations that propose this context: its instances are refused.
                context = _context_of(group[0].instance)
                for one in group:
                    if _context_of(one.instance) == context:
                        self._note(one, SendResult.of_error(error, milliseconds_since(began)))
                return SendResult.of_error(error, milliseconds_since(began))
            except SEND_ERRORS as error:
                if isinstance(error, SpoolError | OSError):
                    self._context.require_spool()  # if the disk is not mounted, no file is lost
                return SendResult.of_error(error, milliseconds_since(began))
            if end is not None:
                return end
        return None

    def _send_group(self, group: Sequence[Member]) -> SendResult | None:
        context, ae_title = self._context, self._destination.ae_title
        if context.faults.peer_is_down(Route.WORKERS):
            raise PeerAwayError(f"{ae_title} is away (fault {Name.WORKER_DOWN})")
        wanted = list(dict.fromkeys(_context_of(one.instance) for one in group))
        with context.associations.lend(
            self._destination,
            wanted[0],
            lambda: wanted[1:],
            likely=lambda: taken_contexts(context, self._destination),
            fresh=True,
        ) as lent:
            for one in group:
                result = self._store(lent.association, one.instance)
                if result.outcome not in DELIVERED | REFUSED:
                    return result
                self._note(one, result)
                if result.outcome in REFUSED and not lent.association.usable:
                    return result  # its file could not be read to the end, or the worker aborted
        return None

    def _store(self, association: Association, instance: StoredInstance) -> SendResult:
        context, ae_title, sent = self._context, self._destination.ae_title, _context_of(instance)
        self.last_began = datetime.now(UTC)
        began = time.monotonic()
        if context.faults.worker_hangs():
            return SendResult.of_status(Status.SUCCESS, ae_title, sent, 0.0)

        def note_progress() -> None:
            context.associations.note_progress(ae_title)
            self._lease.renew_if_due()

        try:
            with DataSetSource(
                context.spool,
                instance,
                faults=context.faults,
                stage=STAGE[Route.WORKERS],
                progress=note_progress,
            ) as source:
                status, _ = association.store(sent, instance.sop_instance_uid, source)
        except SEND_ERRORS as error:
            if isinstance(error, SpoolError | OSError):
                context.require_spool()
            return SendResult.of_error(error, milliseconds_since(began))
        return SendResult.of_status(status, ae_title, sent, milliseconds_since(began))

    def _note(self, member: Member, result: SendResult) -> None:
        self.outcomes[member.delivery_id] = MemberOutcome(
            member.delivery_id, result.outcome, result.status, result.error or None, result.duration_ms
        )


def _by_contexts(members: Sequence[Member]) -> Iterator[list[Member]]:
    """Yield the members in their order, cut where an association would need too many contexts."""
    group: list[Member] = []
    contexts: set[ProposedContext] = set()
    for one in members:
        context = _context_of(one.instance)
        if context not in contexts and len(contexts) == MAX_CONTEXTS:
            yield group
            group, contexts = [], set()
        contexts.add(context)
        group.append(one)
    if group:
        yield group


def _context_of(instance: StoredInstance) -> ProposedContext:
    return ProposedContext(instance.sop_class_uid, instance.transfer_syntax_uid)
