"""What the actors of one process work with, made at the boot of its worker, after Dramatiq's fork."""

import os
from dataclasses import dataclass

import dramatiq
from dramatiq.broker import Broker
from dramatiq.middleware import Middleware

from actors.queue import broker as queue
from gateway import config, log
from gateway.database.dsn import dsn_from_environment
from gateway.database.migrate import require_current
from gateway.database.pool import Database
from gateway.database.tables import destinations
from gateway.database.tables.faults import FaultWatch
from gateway.database.wait import wait_for_database
from gateway.errors import DatabaseError, DatabaseUnavailableError, GatewayError, SchemaError
from gateway.faults import Faults
from gateway.forward.associations import Associations
from gateway.forward.context import ForwardContext
from gateway.log import Stage
from gateway.spool.spool import Spool

DATABASE_CONNECTIONS = 4
"""Beside the queue's own (at most five): threads wait for the network most of the time."""

STATEMENT_SECONDS = 10.0


@dataclass(slots=True)
class _ActorProcess:
    pid: int
    context: ForwardContext
    watch: FaultWatch


_faults = Faults()
_process: _ActorProcess | None = None


def faults() -> Faults:
    """The faults that are active now, as this process last saw them."""
    return _faults


def context() -> ForwardContext:
    """What the forwarding actors work with; there from the boot of the worker on."""
    assert _process is not None, "there is no work before the boot of the worker"
    assert _process.pid == os.getpid(), "a forked process boots for itself"
    return _process.context


class ContextBoot(Middleware):
    """Makes the context before the first message, and closes it after the last."""

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Configuration, database and peers are there; waits for a PostgreSQL that is not."""
        global _process  # noqa: PLW0603  one worker per process, as Dramatiq demands
        del broker
        try:
            _process = _boot(worker)
        except GatewayError as error:
            raise queue.RefusedAtStartError(str(error)) from error

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Associations are released and connections closed."""
        del broker, worker
        if _process is not None:
            _process.watch.stop()
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
    )
    wait_for_database(lambda: _prepare(database, configuration))
    watch = FaultWatch(database, _faults)
    watch.start()
    process = _ActorProcess(
        os.getpid(),
        ForwardContext(
            configuration=configuration,
            database=database,
            spool=Spool(configuration.edge.data_root),
            associations=Associations(configuration.edge.ae_title, configuration.forwarder),
            wakeup=queue.current().wakeup,
            faults=_faults,
            consumer=_consumer,
        ),
        watch,
    )
    log.write(Stage.QUEUE, "actors_ready", detail=queues, count=worker.worker_threads)
    return process


def _consumer() -> int:
    consumer = queue.current().consumer_id()
    if consumer is None:
        # The connection that holds our lock was lost just now: a claim would name nobody. Says nothing
        # about the message, which is run again.
        raise DatabaseUnavailableError("this process holds no lock at the moment")
    return consumer


def _prepare(database: Database, configuration: config.Configuration) -> None:
    try:
        require_current(database)
    except SchemaError as error:
        # the SCP migrates at its start, perhaps just now
        raise DatabaseError(str(error)) from error
    with database.transaction() as session:
        destinations.configure(session, configuration)
