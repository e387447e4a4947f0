"""Presentation contexts to propose to a peer, beside the one that the next instance needs.

An association that proposes the contexts of all waiting instances can send them one after the other. A peer
that refuses an association is asked again with contexts that it accepted before (`gateway.forward.opening`).
"""

from gateway.config.destination import Destination
from gateway.database.tables import deliveries
from gateway.dicom.contexts import ProposedContext
from gateway.domain.routing import Target
from gateway.forward.context import ForwardContext


def waiting_contexts(context: ForwardContext, *targets: Target) -> list[ProposedContext]:
    """Return the contexts of the oldest instances that wait for these targets."""
    with context.database.statement() as session:
        return [
            ProposedContext(*pair)
            for target in targets
            for pair in deliveries.waiting_contexts(session, target)
        ]


def taken_contexts(context: ForwardContext, destination: Destination) -> list[ProposedContext]:
    """Return the contexts in which a peer accepted instances lately."""
    with context.database.statement() as session:
        return [ProposedContext(*pair) for pair in deliveries.taken_contexts(session, destination.ae_title)]
