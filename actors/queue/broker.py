"""The broker: the table and message format of dramatiq-pg, with a consumer of our own.

dramatiq-pg's consumer stops for good at about 15,000 waiting messages, and holds one lock per message
(docs/queue.md, docs/adr/0004-own-consumer.md). This package replaces it:

    enqueue      one INSERT with the due time in the row; no delay queues, no message held in memory
    consume      actors.queue.consumer, over the one connection of actors.queue.liveness
    ack          actors.queue.ack, which never raises
    middleware   the list that is passed to `build`

Dramatiq forks before it imports the actors, but other programs may import them first. So connections and
threads are made when the worker boots, in the process that uses them.
"""

import os
from collections.abc import Callable, Sequence

import dramatiq
from dramatiq.errors import ConnectionError as BrokerConnectionError
from dramatiq.errors import QueueNotFound
from dramatiq.middleware import Middleware, MiddlewareError
from dramatiq_pg import PostgresBroker

from actors.queue.ack import AckWriter, SettleTogether
from actors.queue.capacity import Capacity
from actors.queue.consumer import EdgeConsumer
from actors.queue.in_flight import InFlightMessage, InFlightMessages
from actors.queue.liveness import Liveness
from actors.queue.outgoing import (
    ACTOR_PRIORITIES,
    REFUSES_THE_VALUE,
    RefusedMessageError,
    outgoing,
    require_queue_name,
)
from actors.queue.pooler import PoolerError
from actors.queue.signals import SignalingBroker
from actors.queue.stop_signal import StopSignal
from gateway.database.dsn import dsn_from_environment
from gateway.database.pool import Database, Guard
from gateway.database.tables import messages
from gateway.database.wakeup import Wakeup
from gateway.domain.routing import Route, route_of_queue
from gateway.errors import DatabaseError, DatabaseRefusedError

_ENQUEUE_CONNECTIONS = 2


class EdgeBroker(SignalingBroker, PostgresBroker):  # type: ignore[misc]  # dramatiq-pg has no types
    """Dramatiq's broker over PostgreSQL; one per process."""

    def __init__(self, dsn: str, *, middleware: list[Middleware]) -> None:
        super().__init__([_Boot(), *middleware])
        self.dsn = dsn
        self.database = Database(dsn, application_name="mini-pacs queue", size=_ENQUEUE_CONNECTIONS)
        self.wakeup = Wakeup(dsn)
        self.backend = None
        self.guard: Guard | None = None
        """Called before this process consumes from a database; see gateway/database/pool.py."""
        self.terms: Callable[[str], messages.Terms | None] = lambda _queue: None
        """Says how the deliveries of a queue are claimed with its messages; None if they are not."""
        self.settle: SettleTogether | None = None
        """Records outcomes together with the endings of their messages; see `actors.queue.ack`."""
        self._process: _ConsumingProcess | None = None

    def consumer_id(self) -> int | None:
        """Return the id under which this process holds messages; None if it has no lock."""
        process = self._process
        return None if process is None or process.pid != os.getpid() else process.liveness.consumer

    def settle_together(self, batch: Sequence[InFlightMessage]) -> None:
        """Record the outcomes that the actors left in these messages, and the endings of those."""
        assert self.settle is not None, "an actor left an outcome, and nothing can record it"
        self.settle(batch)

    def declare_actor(self, actor: dramatiq.Actor[..., object]) -> None:
        """Declare the actor; its messages are enqueued with its priority.

        Raises:
            ValueError: its priority or the name of its queue is not supported.
        """
        if actor.priority not in ACTOR_PRIORITIES:
            raise ValueError(
                f"actor {actor.actor_name}: priority {actor.priority!r} is not supported: the queue has "
                f"{ACTOR_PRIORITIES[0]} (first) to {ACTOR_PRIORITIES[-1]} (last); 0 is the default"
            )
        super().declare_actor(actor)  # type: ignore[no-untyped-call]

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue, so that it is consumed. It has no delay queue: delayed messages are due later.

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
            RefusedMessageError: it can never be stored or run; a ValueError.
            dramatiq.errors.ConnectionError: it may or may not be committed. Enqueue the same message again;
                it stays one message.
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
        """Return a consumer of one queue. Capacity and POLL_SECONDS replace `prefetch` and `timeout`.

        Raises:
            dramatiq.errors.QueueNotFound: the queue was not declared.
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
            in_flight=process.in_flight,
            acks=process.acks,
            has_share=_has_share(queue_name),
            terms=lambda: self.terms(queue_name),
        )

    def close(self) -> None:
        """Close the connections and end the threads of this process."""
        process, self._process = self._process, None
        if process is not None:
            # Acks first: messages whose endings are unwritten when the lock is given up run again.
            process.acks.close()
            process.liveness.close()
        self.wakeup.close()
        self.database.close()


def _has_share(queue_name: str) -> bool:
    """Tell whether the queue is that of one target among several; `archives` itself has no messages."""
    return route_of_queue(queue_name) in {Route.ARCHIVES, Route.WORKERS} and queue_name != Route.ARCHIVES


def _not_enqueued(message: dramatiq.Message[object], error: DatabaseError) -> BrokerConnectionError:
    text = f"message {message.message_id} not enqueued: {error}"
    return BrokerConnectionError(text)  # type: ignore[no-untyped-call]


class _ConsumingProcess:
    """The objects that a process has only while it consumes."""

    def __init__(self, dsn: str, threads: int, guard: Guard | None, settle: SettleTogether) -> None:
        self.pid = os.getpid()
        self.in_flight = InFlightMessages()
        self.capacity = Capacity(threads)
        self.liveness = Liveness(dsn, in_flight=self.in_flight, threads=threads, guard=guard)
        self.acks = AckWriter(dsn, settle=settle)


class RefusedAtStartError(MiddlewareError):
    """Permanent: the process ends. Other exceptions of a `before` signal are only logged by Dramatiq."""


class _Boot(Middleware):
    """Starts and stops consuming with Dramatiq's worker."""

    def before_worker_boot(self, broker: EdgeBroker, worker: dramatiq.Worker) -> None:
        process = _ConsumingProcess(broker.dsn, worker.worker_threads, broker.guard, broker.settle_together)
        broker._process = process  # noqa: SLF001  the middleware is part of the broker
        try:
            process.liveness.begin()
        except PoolerError as error:
            raise RefusedAtStartError(str(error)) from error
        StopSignal(process.liveness.stop).watch()

    def before_worker_shutdown(self, broker: EdgeBroker, worker: dramatiq.Worker) -> None:
        del worker
        process = broker._process  # noqa: SLF001
        if process is not None:
            process.capacity.close()
            # Before the wait for running messages: the supervisor may kill this process at any time now.
            process.liveness.stop()


def build(middleware: list[Middleware], dsn: str | None = None) -> EdgeBroker:
    """Make the broker of this process, and set it as Dramatiq's global broker.

    `dsn` defaults to DATABASE_URL of the environment.
    """
    broker = EdgeBroker(dsn or dsn_from_environment(), middleware=middleware)
    dramatiq.set_broker(broker)
    return broker


def current() -> EdgeBroker:
    """Return the broker of this process that `build` made."""
    broker = dramatiq.get_broker()
    assert isinstance(broker, EdgeBroker)
    return broker
