"""Asks a peer whose breaker is open whether it is back.

One chain of messages per peer: each probe writes the next before it asks, so that a death in the middle
does not end the chain; a probe that finds the breaker closed writes none.

    opened as the peer was away   closed by its answer to C-ECHO, or, where it refuses Verification alone, by
                                  its acceptance of an association for what waits
    opened by C-STOREs            closed by its answer to a C-STORE; C-ECHO is asked for `mini-pacs status`.
                                  The PACS is tried with one instance at a time; a worker is given one
                                  instance more than it owes results for
"""

from collections.abc import Sequence
from datetime import timedelta

from gateway import log
from gateway.config import Destination, Forwarder
from gateway.database.tables import destinations
from gateway.database.tables.destinations import Probe
from gateway.dicom.contexts import MAX_CONTEXTS, VERIFICATION, ProposedContext
from gateway.dicom.requestor import Association, associate
from gateway.domain.dimse_status import Status
from gateway.domain.routing import Route
from gateway.errors import PeerAwayError, PeerError
from gateway.forward.associations import peer_of
from gateway.forward.attempt import STAGE, ForwardContext, forward_to_pacs, taken_contexts, waiting_contexts
from gateway.forward.opening import COMMON, VERIFICATIONS, Contexts, may_be_due_to_contexts

C_ECHO = "C-ECHO"
AN_ASSOCIATION = "an association"
"""What a peer without Verification answers; both are words for operators."""


def probe(context: ForwardContext, route: Route, ae_title: str) -> bool:
    """Probe if it is time; True where the peer is well and its breaker is closed now."""
    try:
        destination = context.configuration.destination(ae_title)
    except KeyError:
        return False  # the configuration no longer names it
    wait = timedelta(seconds=context.configuration.forwarder.probe_interval_seconds)
    with context.database.statement() as session:
        kind = destinations.send_probe(session, ae_title, route, wait=wait)
    if kind is None:
        return False
    answers, reason = _ask(context, route, destination)
    if answers is None or kind is Probe.STORE:
        with context.database.statement() as session:
            destinations.note_answer(session, ae_title, answers=answers, reason=reason)
    if answers is None:
        log.write(STAGE[route], "probe_failed", destination=ae_title, error=reason)
        return False
    if kind is Probe.STORE and route is Route.PACS:
        _try_one(context, ae_title)
        return False
    with context.database.statement() as session:
        if kind is Probe.STORE:
            threshold = context.configuration.forwarder.breaker_failures
            closed = destinations.half_open(session, ae_title, threshold=threshold, answers=answers)
        else:
            closed = destinations.note_well(session, ae_title, by_store=False)
    if closed:
        outcome = "tried_with_one" if kind is Probe.STORE else "breaker_closed"
        log.write(STAGE[route], outcome, destination=ae_title)
        context.wakeup.wake(route)
    return closed


def _try_one(context: ForwardContext, ae_title: str) -> None:
    """Send one instance: its outcome closes the breaker, or leaves it open for the next probe."""
    with context.database.statement() as session:
        chosen = destinations.choose_probes(session, ae_title)
    for delivery_id in chosen:
        with context.database.statement() as session:
            begun = destinations.begin_probe(session, ae_title, delivery_id)
        # One that may not be claimed yet, or whose turn it is not, leaves the probe to the next.
        if begun and forward_to_pacs(context, delivery_id, probing=True) is not None:
            return


def _ask(context: ForwardContext, route: Route, destination: Destination) -> tuple[str | None, str | None]:
    """What the peer answers, or the reason why it does not."""
    if context.faults.peer_is_down(route):
        return None, f"{destination.ae_title} is away (fault)"

    def likely() -> Sequence[ProposedContext]:
        return [*waiting_contexts(context, route), *taken_contexts(context, destination)]

    configuration = context.configuration
    try:
        answers = answer_of(configuration.edge.ae_title, destination, configuration.forwarder, likely)
    except PeerError as error:
        return None, str(error)
    return answers, None if answers else f"{destination.ae_title} answered C-ECHO with a failure"


def answer_of(
    calling_ae_title: str, destination: Destination, forwarder: Forwarder, likely: Contexts = tuple
) -> str | None:
    """Return what the peer answers, C_ECHO or AN_ASSOCIATION; None for a C-ECHO with a failure.

    A peer that takes the association but not Verification counts as up (PS3.4 §A). So does one that refuses
    an association for Verification alone and takes one for `likely` or usual contexts.

    Raises:
        PeerError: it does not answer; of two refusals, the first.
    """
    peer = peer_of(destination, forwarder)
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
