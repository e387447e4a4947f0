"""The objects that a receiver process gives to each reception."""

from dataclasses import dataclass

from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.wakeup import Wakeup
from gateway.faults import Faults
from gateway.receive.caller_origin import CallerOrigins
from gateway.receive.commit import Committer
from gateway.spool.spool import Spool


@dataclass(frozen=True, slots=True)
class ReceiverContext:
    """The objects of one receiver process that every C-STORE uses."""

    configuration: Configuration
    spool: Spool
    database: Database
    committer: Committer
    wakeup: Wakeup
    faults: Faults
    origins: CallerOrigins
