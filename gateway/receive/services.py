"""The threads of a receiver that serve no association.

registrar        registers what was received (`gateway.register`)
fault watch      reads which faults are injected
identity watch   sees when the spool or the database is another one
heartbeat        says that this process lives, and takes a new configuration
flusher          writes what was counted and refused, and reads which transfer syntaxes to offer
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from gateway.config import Configuration
from gateway.config.edge import Edge
from gateway.database.counting import Counting, Flusher
from gateway.database.tables.faults import FaultWatch
from gateway.database.tables.processes import Beat, ProcessKind
from gateway.faults import Faults
from gateway.processes.handover import Handover
from gateway.processes.heartbeat import Heartbeat, OwnProcess
from gateway.processes.live import LiveConfiguration
from gateway.receive.answers import StoreAnswers
from gateway.receive.context import ReceiverContext
from gateway.receive.identity_watch import IdentityWatch
from gateway.receive.refusals import Refusals
from gateway.receive.registering import Registering, prepare_database
from gateway.register.caller_origin import CallerOrigins

Change = Callable[[Configuration, ReceiverContext], None]


def address_of_scp(edge: Edge) -> str:
    """Return AE title and port, for the table of processes."""
    return f"{edge.ae_title}:{edge.port}"


class ReceiverServices:
    """The threads of one receiver process that serve no association.

    `loaded` is the content of config.yaml, `configuration` has the values in use. `change` is called with
    each configuration that the process takes; `refresh` every few seconds, and may raise a DatabaseError.
    """

    def __init__(
        self,
        configuration: Configuration,
        loaded: Configuration,
        dsn: str,
        handover: Handover,
        *,
        parent: Callable[[], Beat],
        is_first: bool,
        associations: Callable[[], int],
        change: Change,
        refresh: Callable[[], None],
    ) -> None:
        edge = configuration.edge
        self._is_first = is_first
        self._changed = change
        origins = CallerOrigins(configuration.forwarder)
        self.registering = Registering(configuration, dsn, origins, prepare=self._prepare_database)
        database, identity = self.registering.database, self.registering.identity
        counting = Counting()
        answers, refusals = StoreAnswers(counting), Refusals(counting)
        self.context = ReceiverContext(
            configuration,
            configuration.forwarder.targets,
            configuration.forwarder.rules,
            self.registering.spool,
            self.registering.registrar,
            Faults(),
            origins,
            identity,
            refusals,
            answers,
        )
        self._fault_watch = FaultWatch(database, self.context.faults)
        self._identity_watch = IdentityWatch(identity, self.registering.spool, database)
        self._live = LiveConfiguration(
            configuration, ProcessKind.RECEIVER, self._prepared, loaded=loaded, taken=handover.write
        )
        own = OwnProcess(
            ProcessKind.RECEIVER,
            address_of_scp(edge),
            edge.data_root,
            parent=parent,
            associations=associations,
        )
        self._heartbeat = Heartbeat(database, own, self._live)
        self._flusher = Flusher(
            answers.flush, lambda: counting.flush(database), lambda: refusals.flush(database), refresh
        )

    def start(self) -> None:
        """Open the receiver's folder in the spool, and start every thread."""
        self.registering.spool.open_receiver()
        self._fault_watch.start()
        self._identity_watch.start()
        self._flusher.start()
        self.registering.registrar.start()
        self._heartbeat.start()

    def stop(self, register_seconds: float) -> None:
        """Register for that long at most, and end every thread. The next process registers the rest."""
        self._fault_watch.stop()
        self._identity_watch.stop()
        self.registering.registrar.stop(register_seconds)
        self._heartbeat.stop()
        self._flusher.stop()
        self.registering.close()

    def _prepare_database(self) -> None:
        registering = self.registering
        prepare_database(
            registering.database.dsn, registering.identity, self._live, records_start=self._is_first
        )

    def _prepared(self, configuration: Configuration) -> Callable[[], None]:
        """Return the function that takes a configuration, which `mini-pacs config reload` has loaded."""
        forwarder = configuration.forwarder
        context = replace(
            self.context,
            configuration=configuration,
            targets=forwarder.targets,
            rules=forwarder.rules,
            origins=CallerOrigins(forwarder),
        )
        return partial(self._change, configuration, context)

    def _change(self, configuration: Configuration, context: ReceiverContext) -> None:
        self.context = context
        self._changed(configuration, context)
        self.registering.change(configuration, context.origins)
