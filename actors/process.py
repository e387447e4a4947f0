"""Create what the actors of one process need, when its worker has booted after Dramatiq's fork."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial

import dramatiq
from dramatiq.broker import Broker
from dramatiq.middleware import Middleware

from actors import target_queues
from actors.message_deliveries import settle, settle_later, terms_of
from actors.queue import broker as queue
from actors.queue.in_flight import InFlightMessage
from gateway import config, log
from gateway.database.dsn import dsn_from_environment
from gateway.database.migrate import require_current
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import configurations, destinations, processes
from gateway.database.tables.faults import FaultWatch
from gateway.database.tables.messages import Terms
from gateway.database.tables.processes import ProcessKind
from gateway.database.wait import wait_for_database
from gateway.domain.contract import WATCH
from gateway.domain.routing import Route
from gateway.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    GatewayError,
    SchemaError,
    UnknownSpoolError,
)
from gateway.faults import Faults
from gateway.forward.associations import Associations, check_certificates
from gateway.forward.context import ForwardContext
from gateway.forward.inquiry import Inquiry
from gateway.log import Stage
from gateway.notify.outage import OutageTeller
from gateway.processes.heartbeat import Heartbeat, OwnProcess
from gateway.processes.live import LiveConfiguration
from gateway.spool.identity import SpoolIdentity
from gateway.spool.spool import Spool

DATABASE_CONNECTIONS = 4
"""The queue opens at most five more. Threads mostly wait for the network, so four suffice."""

STATEMENT_SECONDS = 10.0


@dataclass(slots=True)
class _ActorProcess:
    pid: int
    context: ForwardContext
    watch: FaultWatch
    heartbeat: Heartbeat


_faults = Faults()
_process: _ActorProcess | None = None
_outages: OutageTeller | None = None


def faults() -> Faults:
    """Return the active faults, as this process has read them last."""
    return _faults


def context() -> ForwardContext:
    """Return what the actors need; it exists after the boot of the worker."""
    assert _process is not None, "an actor ran before the worker has booted"
    assert _process.pid == os.getpid(), "the worker booted in another process, before a fork"
    return _process.context


@cache
def _identity() -> SpoolIdentity:
    """Return the identity of the spool. Make it at the first use, because an import must not read files."""
    return SpoolIdentity(config.load().edge.data_root)


def delivery_terms(queue_name: str) -> Terms | None:
    """Say how the deliveries of a queue are claimed with its messages; None if they are not."""
    return None if _process is None else terms_of(_process.context.configuration.forwarder, queue_name)


def settle_messages(batch: Sequence[InFlightMessage]) -> None:
    """Settle what the actors of these messages left in them: `actors.message_deliveries.settle`."""
    settle(context(), batch)


def spool_guard(session: Session) -> None:
    """Return if this database belongs to the spool. While this raises, the process claims nothing."""
    _identity().check(session)


def findings_recorded() -> None:
    """Note that the examination of the minute wrote its findings."""
    if _outages is not None:
        _outages.recorded()


class ContextBoot(Middleware):
    """Makes the context before the first message, and closes it after the last one."""

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Read the configuration and make the context; wait while PostgreSQL is away."""
        global _process  # noqa: PLW0603  Dramatiq has one worker per process
        del broker
        try:
            _process = _boot(worker)
        except GatewayError as error:
            raise queue.RefusedAtStartError(str(error)) from error

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Release the associations and close the connections."""
        del broker, worker
        if _outages is not None:
            _outages.stop()
        if _process is not None:
            _process.watch.stop()
            _process.heartbeat.stop()
            _process.context.associations.close()
            _process.context.database.close()


def _boot(worker: dramatiq.Worker) -> _ActorProcess:
    configuration = config.load()
    queues = "-".join(sorted(worker.consumer_whitelist or {"all"}))
    log.configure(configuration.edge.log_path, f"actors-{queues}")
    database = Database(
        dsn_from_environment(),
        application_name=f"mini-pacs actors-{queues}",
        size=DATABASE_CONNECTIONS,
        deadline_seconds=STATEMENT_SECONDS,
        guard=spool_guard,
        prepares=True,
    )
    _tell_outages(configuration, worker)  # before the wait: PostgreSQL may be away now
    own = OwnProcess(
        ProcessKind.ACTORS,
        queues,
        configuration.edge.data_root,
        consumer=queue.current().consumer_id,
        associations=_associations,
    )
    wait_for_database(lambda: _prepare(configuration, own))
    watch = FaultWatch(database, _faults)
    watch.start()
    target_queues.consume(queue.current(), worker, configuration)
    inquiry = _inquiry(configuration, database, worker)
    forwarding = ForwardContext(
        configuration=configuration,
        database=database,
        spool=Spool(configuration.edge.data_root),
        associations=Associations(configuration.edge.ae_title, configuration.forwarder),
        wakeup=queue.current().wakeup,
        faults=_faults,
        consumer=_consumer,
        identity=_identity(),
        ask_archives=inquiry.ask_soon,
        settle_later=settle_later,
    )
    process = _ActorProcess(
        os.getpid(),
        forwarding,
        watch,
        Heartbeat(
            database,
            own,
            LiveConfiguration(configuration, ProcessKind.ACTORS, partial(_prepared, forwarding, worker)),
        ),
    )
    process.heartbeat.start()
    log.write(Stage.QUEUE, "actors_ready", detail=queues, count=worker.worker_threads)
    return process


def _tell_outages(configuration: config.Configuration, worker: dramatiq.Worker) -> None:
    """Start the thread that reports outages of PostgreSQL, if this process serves the queue of the sweep."""
    global _outages  # noqa: PLW0603  Dramatiq has one worker per process
    if WATCH.queue_name in (worker.consumer_whitelist or {WATCH.queue_name}):
        _outages = OutageTeller(
            lambda: configuration if _process is None else _process.context.configuration,
            dsn_from_environment(),
        )
        _outages.start()


def _inquiry(configuration: config.Configuration, database: Database, worker: dramatiq.Worker) -> Inquiry:
    """Ask the archives of the routes that this process serves."""
    served = worker.consumer_whitelist or set(Route)
    routes = [route for route in Route if route.is_archive and route in served]
    inquiry = Inquiry(
        lambda: configuration if _process is None else _process.context.configuration, database, routes
    )
    if routes:
        inquiry.start()
    return inquiry


def _prepared(
    context: ForwardContext, worker: dramatiq.Worker, configuration: config.Configuration
) -> Callable[[], None]:
    """Check a configuration that is to be taken; return the function that takes it."""
    check_certificates(configuration.forwarder)

    def take() -> None:
        context.take(configuration)
        target_queues.consume(queue.current(), worker, configuration)

    return take


def _say_why_it_waits(session: Session, own: OwnProcess, why: UnknownSpoolError) -> None:
    """Write the row of this process, so that a diagnosis names it: its heartbeat has not begun yet."""
    with suppress(DatabaseError):  # the database is empty, or of another version
        processes.beat(session, replace(own.beat(), spool_problem=str(why)))


def _consumer() -> int:
    consumer = queue.current().consumer_id()
    if consumer is None:
        # The connection that holds our lock was lost just now, and a claim needs its id. This is not the
        # fault of the message, which runs again.
        raise DatabaseUnavailableError("this process holds no lock at the moment")
    return consumer


def _associations() -> int:
    return 0 if _process is None else _process.context.associations.count()


def _prepare(configuration: config.Configuration, own: OwnProcess) -> None:
    # Without the guard, which refuses a new pair.
    database = Database(dsn_from_environment(), application_name="mini-pacs actors start", size=1)
    try:
        with database.statement() as session:
            try:
                _identity().require_possible(session)  # its sentence says more than one about the schema
            except UnknownSpoolError as error:
                _say_why_it_waits(session, own, error)
                raise
        try:
            require_current(database)
        except SchemaError as error:
            # Transient: the SCP migrates the schema when it starts, perhaps just now.
            raise DatabaseError(str(error)) from error
        _identity().recognize(database)
        with database.transaction() as session:
            if configurations.may_be_used(session, configuration.digest):
                destinations.configure(session, configuration)
    finally:
        database.close()
