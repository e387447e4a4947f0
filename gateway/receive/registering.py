"""How one receiver registers what it received: its spool, its connections, and its registrar.

The registrar's thread prepares the database first, as soon as it reaches it. Until then instances are
received, and wait in the spool.
"""

from collections.abc import Callable

from gateway import log
from gateway.config import Configuration
from gateway.database.migrate import migrate
from gateway.database.pool import Database
from gateway.database.tables import destinations
from gateway.database.wakeup import Wakeup
from gateway.log import Stage
from gateway.processes import history
from gateway.processes.live import LiveConfiguration
from gateway.register.caller_origin import CallerOrigins
from gateway.register.recovery import Recovery
from gateway.register.registrar import Registrar
from gateway.register.registration import Registration
from gateway.spool.identity import SpoolIdentity
from gateway.spool.spool import Spool

DATABASE_CONNECTIONS = 2
"""One for the registrar, one for the faults, the identity, the heartbeat and the counters."""


def spool_of(configuration: Configuration) -> Spool:
    """Return the spool of `edge.data_root`, with its reserve of free space."""
    edge = configuration.edge
    return Spool(edge.data_root, reserve_bytes=edge.disk_reserve_mb << 20)


class Registering:
    """The spool, the database and the registrar of one receiver process."""

    def __init__(
        self, configuration: Configuration, dsn: str, origins: CallerOrigins, *, prepare: Callable[[], None]
    ) -> None:
        edge = configuration.edge
        self.identity = SpoolIdentity(edge.data_root)
        self.database = Database(
            dsn,
            application_name="mini-pacs receiver",
            size=DATABASE_CONNECTIONS,
            deadline_seconds=edge.commit_timeout_seconds,
            guard=self.identity.check,
            prepares=True,
        )
        self.spool = spool_of(configuration)
        self._wakeup = Wakeup(dsn)
        self._registration = Registration(
            configuration, self.database, self.spool, self._wakeup, origins, identity=self.identity
        )
        self._recovery = Recovery(self.spool, grace_seconds=configuration.sweep.reconcile_grace_seconds)
        self.registrar = Registrar(
            self._registration,
            self._recovery,
            self.spool,
            prepare=prepare,
            max_hours=edge.max_unregistered_hours,
        )

    def change(self, configuration: Configuration, origins: CallerOrigins) -> None:
        """Take another configuration, for the next registrations."""
        edge = configuration.edge
        self._registration.change(configuration, origins)
        self._recovery.grace_seconds = configuration.sweep.reconcile_grace_seconds
        self.registrar.max_hours = edge.max_unregistered_hours
        self.spool.reserve_bytes = edge.disk_reserve_mb << 20
        self.database.deadline_seconds = edge.commit_timeout_seconds

    def close(self) -> None:
        """Close the connections and the folder in the spool, once the registrar has stopped."""
        self._wakeup.close()
        self.spool.close_receiver()
        self.database.close()


def prepare_database(
    dsn: str, identity: SpoolIdentity, live: LiveConfiguration, *, records_start: bool
) -> None:
    """Bring the schema up to date, and write the destinations. The other receivers wait meanwhile.

    Pair spool and database if both are new. The database of another spool is not migrated. `records_start`
    writes the start into the history of the configuration.

    Raises:
        GatewayError: PostgreSQL cannot be reached, or the database belongs to another spool.
    """
    database = Database(dsn, application_name="mini-pacs receiver start", size=1)
    try:
        with database.statement() as session:
            identity.require_possible(session)
        for version in migrate(database.dsn):
            log.write(Stage.DB, "migrated", detail=version)
        identity.recognize(database)
        # The first time mark says that this spool was paired: from now on it receives without PostgreSQL.
        identity.mark(database)
        with database.transaction() as session:
            if records_start:
                history.record_start(session, live.loaded)
            destinations.configure(session, live.current)
    finally:
        database.close()
