"""Asks a peer whose breaker is open whether it is back.

One chain of messages per peer: each probe writes the next before it asks, so that a death in the middle
does not end the chain; a probe that finds the breaker closed writes none.
"""

from datetime import timedelta

from gateway import log
from gateway.config import Destination, Forwarder
from gateway.dicom.contexts import IMPLICIT_LITTLE_ENDIAN, VERIFICATION, ProposedContext
from gateway.dicom.scu import associate
from gateway.domain.dimse_status import Status
from gateway.domain.routing import Route
from gateway.errors import ContextNotAcceptedError, PeerError
from gateway.forward.associations import peer_of
from gateway.forward.attempt import STAGE, Context, forward_to_pacs
from gateway.store import deliveries, destinations
from gateway.store.destinations import Probe


def probe(context: Context, route: Route, ae_title: str) -> bool:
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
    if kind is Probe.STORE and route is Route.PACS:
        with context.database.transaction() as session:
            delivery_id = deliveries.oldest_pending(session, route)
        if delivery_id is not None:
            # Its outcome closes the breaker, or leaves it open for the next probe.
            forward_to_pacs(context, delivery_id)
            return False
    if not _answers(context, route, destination):
        return False
    with context.database.statement() as session:
        if kind is Probe.STORE and route is Route.WORKERS:
            # It answers, but refused instances; the next instance tells.
            threshold = context.configuration.forwarder.breaker_failures
            closed = destinations.half_open(session, ae_title, threshold=threshold)
        else:
            closed = destinations.note_well(session, ae_title)
    if closed:
        log.write(STAGE[route], "breaker_closed", destination=ae_title)
        context.wakeup.wake(route)
    return closed


def _answers(context: Context, route: Route, destination: Destination) -> bool:
    if context.faults.peer_is_down(route):
        return False
    try:
        return echo(context.configuration.edge.ae_title, destination, context.configuration.forwarder)
    except PeerError as error:
        log.write(STAGE[route], "probe_failed", destination=destination.ae_title, error=str(error))
        return False


def echo(calling_ae_title: str, destination: Destination, forwarder: Forwarder) -> bool:
    """C-ECHO. A peer that takes the association but not Verification counts as up (PS3.4 §A).

    Raises:
        PeerError: it does not.
    """
    verification = ProposedContext(VERIFICATION, IMPLICIT_LITTLE_ENDIAN)
    peer = peer_of(destination, forwarder)
    with associate(peer, calling_ae_title=calling_ae_title, contexts=[verification]) as association:
        try:
            return association.echo() == Status.SUCCESS
        except ContextNotAcceptedError:
            return True
