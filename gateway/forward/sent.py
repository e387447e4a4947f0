"""A delivery that its peer took, and whose outcome is not recorded yet."""

from dataclasses import dataclass

from gateway.database.tables.deliveries import DeliveryClaim, Settlement
from gateway.domain.routing import Route


@dataclass(frozen=True, slots=True)
class SentDelivery:
    """The claim, and the settlement to record: delivered, by a peer that works."""

    claim: DeliveryClaim
    route: Route
    settlement: Settlement
