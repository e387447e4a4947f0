"""Ask a peer whose circuit breaker is open whether it is back.

While a breaker is open, no message of its route is claimed, so no delivery can show that the peer is back. A
chain of probe messages asks the peer instead: each probe enqueues the next one, and then asks. A probe that
finds the breaker closed enqueues none.

    breaker opened because        it is closed by
    the peer was away             an answer to C-ECHO. If the peer refuses an association for Verification
                                  alone: an accepted association for the contexts that waiting instances need
    C-STOREs failed               an answer to a C-STORE. The answer to C-ECHO is only shown by `mini-pacs
                                  status`. An archive gets one instance at a time. A worker gets one instance,
                                  in addition to those whose results it has not returned yet

If the process dies
    before the next probe is enqueued   this message runs again
    after that                          the next probe asks
"""

from collections.abc import Sequence
from datetime import timedelta

from gateway import log
from gateway.config.destination import Destination
from gateway.config.forwarder import Forwarder
from gateway.database.tables import breakers
from gateway.database.tables.breakers import Probe
from gateway.dicom.association import Association
from gateway.dicom.contexts import MAX_CONTEXTS, VERIFICATION, ProposedContext
from gateway.dicom.requestor import associate
from gateway.domain.dimse_status import Status
from gateway.domain.routing import Route, Target
from gateway.errors import PeerAwayError, PeerError
from gateway.forward.context import STAGE, ForwardContext
from gateway.forward.deliver import forward_to_archive, forward_to_pacs
from gateway.forward.opening import COMMON, VERIFICATIONS, Contexts, may_be_due_to_contexts
from gateway.forward.peer import address_of
from gateway.forward.proposed_contexts import taken_contexts, waiting_contexts

C_ECHO = "C-ECHO"
AN_ASSOCIATION = "an association"
"""What a peer answered, in words for operators: the second if it accepts no Verification."""


def probe(context: ForwardContext, route: Route, ae_title: str) -> bool:
    """Ask the peer if a probe is due; tell whether its breaker was closed."""
    try:
        destination = context.configuration.destination(ae_title)
    except KeyError:
        return False  # the destination was removed from the configuration
    wait = timedelta(seconds=context.configuration.forwarder.probe_interval_seconds)
    with context.database.statement() as session:
        # Enqueue the next probe first: if this process dies while it asks, the chain of probes goes on.
        kind = breakers.send_probe(session, ae_title, route, wait=wait)
    if kind is None:
        return False
    answers, reason = _ask(context, route, destination)
    if answers is None or kind is Probe.STORE:
        with context.database.statement() as session:
            breakers.note_answer(session, ae_title, answers=answers, reason=reason)
    if answers is None:
        log.write(STAGE[route], "probe_failed", destination=ae_title, error=reason)
        return False
    if kind is Probe.STORE and route.is_archive:
        _try_one(context, route, ae_title)
        return False
    with context.database.statement() as session:
        if kind is Probe.STORE:
            threshold = context.configuration.forwarder.breaker_failures
            closed = breakers.half_open(session, ae_title, threshold=threshold, answers=answers)
        else:
            closed = breakers.note_well(session, ae_title, by_store=False)
    if closed:
        outcome = "tried_with_one" if kind is Probe.STORE else "breaker_closed"
        log.write(STAGE[route], outcome, destination=ae_title)
        context.wakeup.wake(route)
    return closed


def _try_one(context: ForwardContext, route: Route, ae_title: str) -> None:
    """Send one instance to an archive; its outcome closes the breaker, or leaves it to the next probe."""
    with context.database.statement() as session:
        chosen = breakers.choose_probes(session, ae_title)
    for delivery_id in chosen:
        with context.database.statement() as session:
            begun = breakers.begin_probe(session, ae_title, delivery_id)
        # If the instance cannot be claimed now, nothing was sent: try the next one.
        forward = forward_to_pacs if route is Route.PACS else forward_to_archive
        if begun and forward(context, delivery_id, probing=True) is not None:
            return


def _ask(context: ForwardContext, route: Route, destination: Destination) -> tuple[str | None, str | None]:
    """Return what the peer answers, or None and the reason."""
    if context.faults.peer_is_down(route):
        return None, f"{destination.ae_title} is away (fault)"

    def likely() -> Sequence[ProposedContext]:
        return [
            *waiting_contexts(context, *_targets_of(context, route, destination)),
            *taken_contexts(context, destination),
        ]

    configuration = context.configuration
    try:
        answers = answer_of(configuration.edge.ae_title, destination, configuration.forwarder, likely)
    except PeerError as error:
        return None, str(error)
    return answers, None if answers else f"{destination.ae_title} answered C-ECHO with a failure"


def _targets_of(context: ForwardContext, route: Route, destination: Destination) -> list[Target]:
    """Return the targets whose deliveries the peer gets: itself, or the applications that it serves."""
    if route.is_archive:
        return [Target(route, destination.ae_title)]
    applications = context.configuration.forwarder.applications_in_force.values()
    return [Target(route, one.name) for one in applications if destination in one.workers]


def answer_of(
    calling_ae_title: str, destination: Destination, forwarder: Forwarder, likely: Contexts = tuple
) -> str | None:
    """Ask the peer; return C_ECHO or AN_ASSOCIATION, or None if it answers C-ECHO with a failure.

    A peer that accepts the association but not Verification counts as up (PS3.4 §A). So does a peer that
    refuses an association for Verification alone, and accepts one for `likely` or common contexts.

    Raises:
        PeerError: it does not answer, or refuses both associations; the error is the first refusal.
    """
    peer = address_of(destination, forwarder)
    try:
        association = associate(peer, calling_ae_title=calling_ae_title, contexts=VERIFICATIONS)
    except PeerAwayError as refusal:
        if not may_be_due_to_contexts(refusal):
            raise
        contexts = list(dict.fromkeys([*VERIFICATIONS, *likely(), *COMMON]))[:MAX_CONTEXTS]
        try:
            association = associate(peer, calling_ae_title=calling_ae_title, contexts=contexts)
        except PeerAwayError as error:
            raise refusal from error
    return _echo(association)


def _echo(association: Association) -> str | None:
    with association:
        if not any(context.sop_class_uid == VERIFICATION for context in association.accepted):
            return AN_ASSOCIATION
        return C_ECHO if association.echo() == Status.SUCCESS else None
