"""The broker: dramatiq-pg's table and message format, with a consumer that stands any backlog and any crash.

Built on PostgresBroker for what is good in it (the format, the schema, its place in Dramatiq) and different
in what jams or loses (design.md §8):

    enqueue          one insert with the due time in the row; no delay queues, no message held in memory
    consume          actors.queue.consumer, with the process's one connection of actors.queue.liveness
    ack              actors.queue.ack, which never raises
    middleware       the explicit list of `build`

Dramatiq forks before it imports the actors, but other programs may import first: all connections and
threads are made at the boot of the worker, in the process that uses them.
"""

import os

import dramatiq
from dramatiq.broker import Broker
from dramatiq.errors import ConnectionError as BrokerConnectionError
from dramatiq.errors import QueueNotFound
from dramatiq.middleware import Middleware, MiddlewareError
from dramatiq_pg import PostgresBroker

from actors.queue.ack import AckWriter
from actors.queue.capacity import Capacity
from actors.queue.consumer import EdgeConsumer
from actors.queue.in_flight import InFlightMessages
from actors.queue.liveness import Liveness
from actors.queue.outgoing import (
    ACTOR_PRIORITIES,
    REFUSES_THE_VALUE,
    RefusedMessageError,
    outgoing,
    require_queue_name,
)
from actors.queue.pooler import PoolerError
from gateway.database.dsn import dsn_from_environment
from gateway.database.pool import Database
from gateway.database.tables import messages
from gateway.database.wakeup import Wakeup
from gateway.errors import DatabaseError, DatabaseRefusedError

_ENQUEUE_CONNECTIONS = 2


class EdgeBroker(PostgresBroker):  # type: ignore[misc]  # dramatiq-pg has no types
    """Dramatiq's broker over PostgreSQL. One per process, living as long as it."""

    def __init__(self, dsn: str, *, middleware: list[Middleware]) -> None:
        # Not PostgresBroker's: it opens a pool at once, and adds Results.
        Broker.__init__(self, middleware=[_Boot(), *middleware])  # type: ignore[no-untyped-call]
        self.dsn = dsn
        self.database = Database(dsn, application_name="mini-pacs queue", size=_ENQUEUE_CONNECTIONS)
        self.wakeup = Wakeup(dsn)
        self.backend = None
        self._process: _ConsumingProcess | None = None

    def consumer_id(self) -> int | None:
        """The id under which this process holds messages now; None where it consumes none, or lost it."""
        process = self._process
        return None if process is None or process.pid != os.getpid() else process.liveness.consumer

    def declare_actor(self, actor: dramatiq.Actor[..., object]) -> None:
        """Declare the actor; its messages are enqueued with its priority.

        Raises:
            ValueError: the queue has no such priority, or no such name.
        """
        if actor.priority not in ACTOR_PRIORITIES:
            raise ValueError(
                f"actor {actor.actor_name}: priority {actor.priority!r} is not supported: the queue has "
                f"{ACTOR_PRIORITIES[0]} (first) to {ACTOR_PRIORITIES[-1]} (last); 0 is the default"
            )
        super().declare_actor(actor)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue, so that it is consumed. There is no delay queue beside it: a delay is a due time.

        Raises:
            ValueError: PostgreSQL cannot store that name.
        """
        require_queue_name(queue_name)
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = True
            self.emit_after("declare_queue", queue_name)

    def enqueue(
        self, message: dramatiq.Message[object], *, delay: int | None = None
    ) -> dramatiq.Message[object]:
        """Commit the message, due after `delay` milliseconds or at its option `eta`, and wake its consumers.

        Raises:
            RefusedMessageError: it cannot be stored or run, whoever tries it again: a ValueError.
            dramatiq.errors.ConnectionError: it may or may not be committed; the same message may be enqueued
                again, and stays one message.
        """
        self.emit_before("enqueue", message, delay)
        actor = self.actors.get(message.actor_name)
        row = outgoing(message, delay, priority=0 if actor is None else actor.priority)
        try:
            with self.database.statement() as session:
                messages.enqueue(
                    session,
                    row.queue_name,
                    row.message_id,
                    row.document,
                    delay=row.delay,
                    priority=row.priority,
                )
        except DatabaseRefusedError as error:
            if error.sqlstate.startswith(REFUSES_THE_VALUE):
                raise RefusedMessageError(
                    f"message {message.message_id} cannot be stored: {error}"
                ) from error
            raise _not_enqueued(message, error) from error
        except DatabaseError as error:
            raise _not_enqueued(message, error) from error
        self.wakeup.wake(message.queue_name)
        self.emit_after("enqueue", message, delay)
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> EdgeConsumer:
        """Return the consumer of one queue. Dramatiq's figures are not ours: see Capacity and POLL_SECONDS.

        Raises:
            dramatiq.errors.QueueNotFound: it was never declared.
        """
        del prefetch, timeout
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]
        process = self._process
        assert process is not None, "consuming begins with the boot of a worker"
        return EdgeConsumer(
            queue_name,
            liveness=process.liveness,
            capacity=process.capacity,
            held=process.held,
            acks=process.acks,
        )

    def close(self) -> None:
        """Connections and threads of this process are closed."""
        process, self._process = self._process, None
        if process is not None:
            # Acks first: what is still held when the lock goes would be run again.
            process.acks.close()
            process.liveness.close()
        self.wakeup.close()
        self.database.close()


def _not_enqueued(message: dramatiq.Message[object], error: DatabaseError) -> BrokerConnectionError:
    text = f"message {message.message_id} not enqueued: {error}"
    return BrokerConnectionError(text)  # type: ignore[no-untyped-call]


class _ConsumingProcess:
    """What a process needs to consume."""

    def __init__(self, dsn: str, threads: int) -> None:
        self.pid = os.getpid()
        self.held = InFlightMessages()
        self.capacity = Capacity(threads)
        self.liveness = Liveness(dsn, held=self.held, threads=threads)
        self.acks = AckWriter(dsn)


class RefusedAtStartError(MiddlewareError):
    """The process ends instead of consuming; any other exception of a `before` is logged by Dramatiq."""


class _Boot(Middleware):
    """Ties what consumes to the life of Dramatiq's worker."""

    def before_worker_boot(self, broker: EdgeBroker, worker: dramatiq.Worker) -> None:
        process = _ConsumingProcess(broker.dsn, worker.worker_threads)
        broker._process = process  # noqa: SLF001  the two are one thing in two classes
        try:
            process.liveness.begin()
        except PoolerError as error:
            raise RefusedAtStartError(str(error)) from error

    def before_worker_shutdown(self, broker: EdgeBroker, worker: dramatiq.Worker) -> None:
        del worker
        process = broker._process  # noqa: SLF001
        if process is not None:
            process.capacity.close()
            # Before the wait for what runs: whoever stops us may kill us at any moment from here on.
            process.liveness.stop()


def build(middleware: list[Middleware], dsn: str | None = None) -> EdgeBroker:
    """The broker of this process, set as Dramatiq's own, for actors to be declared on.

    `dsn` defaults to the environment's.
    """
    broker = EdgeBroker(dsn or dsn_from_environment(), middleware=middleware)
    dramatiq.set_broker(broker)
    return broker


def current() -> EdgeBroker:
    """The broker of this process, as `build` set it."""
    broker = dramatiq.get_broker()
    assert isinstance(broker, EdgeBroker)
    return broker
