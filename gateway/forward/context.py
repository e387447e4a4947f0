"""The objects with which the actors of one process forward instances."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.wakeup import Wakeup
from gateway.domain.routing import Route
from gateway.faults import Faults
from gateway.forward.associations import Associations
from gateway.forward.turns import Turns
from gateway.log import Stage
from gateway.spool.spool import Spool

STAGE = {Route.PACS: Stage.FORWARD_PACS, Route.WORKERS: Stage.FORWARD_WORKER}


@dataclass(frozen=True, slots=True)
class ForwardContext:
    """What one process needs to forward instances.

    `consumer` returns the id under which this process claims deliveries.
    """

    configuration: Configuration
    database: Database
    spool: Spool
    associations: Associations
    wakeup: Wakeup
    faults: Faults
    consumer: Callable[[], int]
    turns: Turns = field(default_factory=Turns)
