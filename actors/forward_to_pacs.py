"""The actors of the queue `pacs`: one attempt of one delivery, and the probe of a PACS that was away."""

import dramatiq

from actors import process
from gateway.domain.contract import FORWARD_TO_PACS, PROBE_PACS
from gateway.domain.routing import Route
from gateway.forward import attempt, probe


@dramatiq.actor(actor_name=FORWARD_TO_PACS.actor_name, queue_name=FORWARD_TO_PACS.queue_name)
def forward_to_pacs(delivery_id: int) -> None:
    """The delivery is settled, or pending with its next message; or there was nothing to do."""
    attempt.forward_to_pacs(process.context(), delivery_id)


@dramatiq.actor(actor_name=PROBE_PACS.actor_name, queue_name=PROBE_PACS.queue_name)
def probe_pacs(ae_title: str) -> None:
    """The breaker is closed, or the next probe is due."""
    probe.probe(process.context(), Route.PACS, ae_title)
