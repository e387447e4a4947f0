"""The objects with which the actors of one process forward instances."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.config import Configuration
from gateway.config.destination import Destination
from gateway.database.pool import Database
from gateway.database.wakeup import Wakeup
from gateway.domain.routing import Route
from gateway.faults import Faults
from gateway.forward.associations import Associations
from gateway.forward.sent import SentDelivery
from gateway.forward.turns import Turns
from gateway.log import Stage
from gateway.spool.identity import SpoolIdentity
from gateway.spool.spool import Spool

STAGE = {
    Route.PACS: Stage.FORWARD_PACS,
    Route.ARCHIVES: Stage.FORWARD_ARCHIVE,
    Route.WORKERS: Stage.FORWARD_WORKER,
}


@dataclass(slots=True)
class ForwardContext:
    """What one process needs to forward instances.

    `configuration` is exchanged by `take` while attempts run: ask for it at each use. `consumer` returns the
    id under which this process claims deliveries. `identity` tells a lost file from a disk that is not
    mounted.
    """

    configuration: Configuration
    database: Database
    spool: Spool
    associations: Associations
    wakeup: Wakeup
    faults: Faults
    consumer: Callable[[], int]
    turns: Turns = field(default_factory=Turns)
    identity: SpoolIdentity | None = None
    ask_archives: Callable[[], None] = lambda: None
    """Called after an archive did not accept the context of an instance; see gateway/forward/inquiry.py."""
    settle_later: Callable[[SentDelivery], bool] = lambda _sent: False
    """Takes what is to be settled together with its message; returns False if the caller must settle it.
    See gateway/forward/settle_together.py."""
    _before: Configuration | None = field(default=None, init=False)

    def take(self, configuration: Configuration) -> None:
        """Use another configuration from now on; attempts in progress keep their destination."""
        self._before, self.configuration = self.configuration, configuration
        self.associations.take(configuration)

    def destination(self, ae_title: str) -> Destination:
        """Return the destination of a claim. It may have been removed from the configuration just now.

        Raises:
            KeyError: neither this configuration nor the one before has it.
        """
        try:
            return self.configuration.destination(ae_title)
        except KeyError:
            if self._before is None:
                raise
            return self._before.destination(ae_title)

    def require_spool(self) -> None:
        """Return if the folder of the spool is there.

        Raises:
            UnknownSpoolError: its disk is not mounted, or it is another spool.
        """
        if self.identity is not None:
            self.identity.require_folder()
