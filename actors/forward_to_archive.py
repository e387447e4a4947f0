"""The actors of the archives beside the PACS: one attempt of one delivery, and the probe of an archive."""

import dramatiq

from actors import process
from actors.message_deliveries import claimed_before, claimed_target
from gateway.domain.contract import FORWARD_TO_ARCHIVE, PROBE_ARCHIVE
from gateway.domain.routing import Route
from gateway.forward import deliver, probe


@dramatiq.actor(actor_name=FORWARD_TO_ARCHIVE.actor_name, queue_name=FORWARD_TO_ARCHIVE.queue_name)
def forward_to_archive(delivery_id: int) -> None:
    """Make one attempt at a delivery; do nothing if it is settled or claimed by another process."""
    deliver.forward_to_archive(
        process.context(),
        delivery_id,
        target=claimed_target(),
        take=claimed_before(delivery_id),
    )


@dramatiq.actor(actor_name=PROBE_ARCHIVE.actor_name, queue_name=PROBE_ARCHIVE.queue_name)
def probe_archive(ae_title: str) -> None:
    """Ask the peer whether it is back; close its breaker, or leave it to the next probe."""
    probe.probe(process.context(), Route.ARCHIVES, ae_title)
