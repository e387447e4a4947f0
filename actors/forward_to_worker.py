"""The actors of the queue `workers`: one attempt of one delivery, and the probe of a worker that was away."""

import dramatiq

from actors import process
from actors.message_deliveries import claimed_before
from gateway.domain.contract import FORWARD_TO_WORKER, PROBE_WORKER
from gateway.domain.routing import Route
from gateway.forward import deliver, probe


@dramatiq.actor(actor_name=FORWARD_TO_WORKER.actor_name, queue_name=FORWARD_TO_WORKER.queue_name)
def forward_to_worker(delivery_id: int) -> None:
    """Make one attempt at a delivery; do nothing if it is settled or claimed by another process."""
    deliver.forward_to_worker(process.context(), delivery_id, take=claimed_before(delivery_id))


@dramatiq.actor(actor_name=PROBE_WORKER.actor_name, queue_name=PROBE_WORKER.queue_name)
def probe_worker(ae_title: str) -> None:
    """Ask the peer whether it is back; close its breaker, or leave it to the next probe."""
    probe.probe(process.context(), Route.WORKERS, ae_title)
