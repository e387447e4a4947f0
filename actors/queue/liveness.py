"""The one connection by which an actor process proves that it lives, and claims what it runs.

It is dedicated, never pooled, and holds a session advisory lock under a random id. Every claimed message
names that id. If the process dies, PostgreSQL drops the lock with the connection, and any other consumer
misses it and makes its messages claimable (`actors.queue.reaper`). No clock, no heartbeat row, no lock per
message.

If the connection is lost while the process lives, it comes back under a new id. Messages whose actors are
still running are adopted under it where nobody reaped them, and their deliveries with them; a message that
did not start is dropped and runs elsewhere. If the process dies
    after the lock, before its row    nothing remains: it held no message
    with messages                     its row and messages remain; the reaper frees them
    in the middle of a claim          the claim is rolled back, or it is committed and reaped

If the answer of a claim or of an adoption is lost with the connection, nobody knows which id stands in the
rows: every id is remembered until an adoption was answered. What stands under one of them and is not held
here never started, or has ended: it is freed without counting a death.
"""

import os
import secrets
import select
import socket
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from time import monotonic

from actors.queue.capacity import PollableEvent
from actors.queue.in_flight import InFlightMessages
from actors.queue.pooler import PoolerError, require_session_mode
from actors.queue.reaper import Reaper
from gateway import log
from gateway.database.connection import Connection, connect
from gateway.database.session import DedicatedSession, Session
from gateway.database.tables import consumers, messages
from gateway.errors import DatabaseUnavailableError
from gateway.log import Stage

DEADLINE_SECONDS = 5.0
"""For one claim; must exceed what PostgreSQL takes for one under load, and bounds how long a network that
swallows packets goes unnoticed: the server side gives up our lock in the same time."""

CONNECT_AGAIN_SECONDS = 0.3
"""Between attempts to connect; must be a small part of the reaper's grace."""

_ID_BITS = 63


class Liveness:
    """The connection, its id and its lock. One per process; safe across its consumer threads."""

    def __init__(self, dsn: str, *, held: InFlightMessages, threads: int) -> None:
        self._dsn = dsn
        self._held = held
        self._threads = threads
        self._mutex = threading.RLock()
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._id: int | None = None
        self._lost: list[int] = []  # the ids before it that rows may still name
        self._is_session_mode = False
        self._events: dict[str, PollableEvent] = {}
        self._next_connect = 0.0
        self._reaper = Reaper()
        self._alone: frozenset[str] = frozenset()
        self._stopping = False
        self._closed = False

    @property
    def consumer(self) -> int | None:
        """The id whose lock is held now; None while the connection is lost."""
        return self._id

    def serve(self, queue_name: str, bell: PollableEvent) -> None:
        """Consume this queue from here on; a NOTIFY for it rings the bell."""
        with self._mutex:
            self._events[queue_name] = bell
            self._announce()

    def leave(self, queue_name: str) -> None:
        """Do not ring for this queue any more."""
        with self._mutex:
            self._events.pop(queue_name, None)

    # ---- connection ------------------------------------------------------------------------------

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session on the live connection, each statement a transaction of its own.

        Raises:
            DatabaseUnavailableError: there is no connection, or it was lost now; the id is void then.
            PoolerError: there is one now, and a pooler in transaction mode in between.
        """
        with self._mutex:
            session = self._connected()
            try:
                yield session
            except DatabaseUnavailableError as error:
                self._disconnect()
                raise DatabaseUnavailableError(f"the consumer's connection was lost: {error}") from error

    def begin(self) -> None:
        """Connect; where PostgreSQL is away, the consumers do it as soon as it is there.

        Raises:
            PoolerError: a pooler in transaction mode stands in between.
        """
        try:
            with self.session():
                pass
        except DatabaseUnavailableError as error:
            log.write(Stage.QUEUE, "database_away", level="warning", error=str(error))

    def _connected(self) -> Session:
        if self._session is not None and self._connection is not None and not self._connection.closed:
            return self._session
        self._disconnect()
        if self._closed:
            raise DatabaseUnavailableError("the consumer is closed")
        if monotonic() < self._next_connect:
            raise DatabaseUnavailableError("no connection to PostgreSQL")
        self._next_connect = monotonic() + CONNECT_AGAIN_SECONDS
        connection = connect(
            self._dsn, application_name="mini-pacs consumer", deadline_seconds=DEADLINE_SECONDS
        )
        try:
            self._enter(connection)
        except PoolerError:
            connection.close()
            self._closed = True  # nothing that we try again would change it
            raise
        except DatabaseUnavailableError as error:
            connection.close()
            raise DatabaseUnavailableError(f"the consumer cannot register: {error}") from error
        assert self._session is not None
        return self._session

    def _enter(self, connection: Connection) -> None:
        session = DedicatedSession(connection)
        messages.prepare_consumer(session)
        consumer = secrets.randbits(_ID_BITS)
        server_process = consumers.take_lock(session, consumer)
        if server_process is None:
            raise DatabaseUnavailableError("the random id of this consumer is taken; trying another")
        if not self._is_session_mode:
            require_session_mode(self._dsn, session, server_process, deadline_seconds=DEADLINE_SECONDS)
            self._is_session_mode = True
        # Only now: a row whose lock is not yet held would be reaped.
        consumers.register(
            session,
            consumer,
            host=socket.gethostname(),
            pid=os.getpid(),
            queue_names=sorted(self._events),
            threads=self._threads,
            stopping=self._stopping,
        )
        # Before the first claim, so that no commit falls between the look and the listening.
        messages.listen(session, list(self._events))
        # Last: what is adopted under an id that then fails to come alive would be run again.
        if lost := tuple(self._lost):
            self._lost.append(consumer)  # if the answer is lost, it is one of them
            self._adopt(session, lost, consumer)
        self._reaper.begin(session)
        self._lost.clear()
        self._connection, self._session, self._id = connection, session, consumer
        for bell in self._events.values():
            bell.ring()

    def _adopt(self, session: Session, lost: Collection[int], consumer: int) -> None:
        def adopt(runs: Collection[messages.Run]) -> frozenset[messages.Run]:
            adopted = consumers.adopt(session, runs, lost=lost, consumer=consumer)
            # Behind it, because it waits for a reaper under way: what that one freed is known only now.
            if reaped := set(runs) - adopted:
                consumers.undo_deaths(session, {message_id for message_id, _ in reaped}, lost=lost)
            return adopted

        self._held.rename(adopt, lost, consumer)
        log.write(
            Stage.QUEUE,
            "reconnected",
            level="warning",
            detail=f"consumer {', '.join(map(str, lost))} is now {consumer}",
        )

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._id is not None:
            self._lost.append(self._id)
            # Others may take us for dead soon: the next upkeep connects, however busy we are.
            self._reaper.check_now()
        self._connection = self._session = self._id = None

    def _announce(self) -> None:
        """What is served changed: listen to it, and let our row say so."""
        if self._session is None or self._id is None:
            return  # both are done at connecting
        try:
            with self.session() as session:
                messages.listen(session, list(self._events))
                consumers.serve(session, self._id, list(self._events))
        except DatabaseUnavailableError:
            pass  # connecting again does both

    # ---- claims ----------------------------------------------------------------------------------

    def claim(
        self, queue_name: str, wanted: int, *, seats: int, alone: bool, floors: Sequence[datetime | None]
    ) -> tuple[messages.MessageClaim, int]:
        """What was claimed, and the id that holds it; what is more than `seats` counts as claimed ahead.

        Raises:
            DatabaseUnavailableError: nothing is ours; what may have been claimed will be reaped.
        """
        with self.session() as session:
            assert self._connection is not None
            assert self._id is not None
            self._pass_on(self._connection.take_notifies())  # of other queues, too
            claim = (
                messages.claim_exclusive(session, queue_name, self._id)
                if alone
                else messages.claim(session, queue_name, wanted, self._id, floors, seats=seats)
            )
            self._pass_on(self._connection.take_notifies())
            if alone:
                # Until the next upkeep the others have their turn.
                self._alone -= {queue_name}
            return claim, self._id

    def upkeep(self) -> None:
        """The reaper looks when it is due, by the first thread that comes by.

        Raises:
            DatabaseUnavailableError: there is no connection.
            PoolerError: there is one now, and a pooler in transaction mode in between.
        """
        if self._reaper.seconds_to_look > 0:
            return
        with self.session() as session:
            if self._reaper.seconds_to_look > 0:
                return
            self._reaper.look(session)
            self._alone = messages.waiting_alone(session, self._events)

    def someone_waits_alone(self, queue_name: str) -> bool:
        """Tell whether the last upkeep found a message of this queue that must run with no neighbours."""
        return queue_name in self._alone

    def wait(self, bell: PollableEvent, seconds: float) -> None:
        """Return when the bell rings, PostgreSQL notifies or hangs up, upkeep is due, or after `seconds`."""
        seconds = max(min(seconds, self._reaper.seconds_to_look), 0.0)
        poller = select.poll()
        poller.register(bell.fileno(), select.POLLIN)
        connection = self._connection
        if connection is not None and not connection.closed:
            # Another thread may close it meanwhile: then there is no descriptor, or poll(2) says POLLNVAL.
            descriptor = connection.descriptor()
            if descriptor is not None:
                poller.register(descriptor, select.POLLIN)
        ready = poller.poll(seconds * 1000)
        bell.silence()
        if any(readable != bell.fileno() for readable, _ in ready):
            self._hear()

    def _hear(self) -> None:
        with self._mutex:
            if self._connection is None or self._connection.closed:
                return
            try:
                channels = self._connection.receive_notifies()
            except DatabaseUnavailableError:
                # PostgreSQL closed the connection: the next session() connects anew.
                self._disconnect()
                return
            self._pass_on(channels)

    def _pass_on(self, channels: set[str]) -> None:
        if not channels:
            return
        for queue_name, bell in self._events.items():
            if messages.channel(queue_name) in channels:
                bell.ring()

    def dead_letter(self, run: messages.Run, consumer: int, reason: str) -> None:
        """Make a message dead that was never handed to anybody."""
        with self.session() as session:
            messages.dead_letter(session, run, consumer, reason=reason)
        log.write(Stage.QUEUE, "message_dead", level="error", error=reason, detail=f"message {run[0]}")

    def put_off(self, run: messages.Run, consumer: int, delay: timedelta) -> None:
        """Make a message due later that was never handed to anybody."""
        with self.session() as session:
            messages.retry(session, run, consumer, delay=delay, counted=False, reason=None)

    def give_back(self, by_consumer: Iterable[tuple[int, list[messages.Run]]]) -> None:
        """Unstarted messages wait again; where PostgreSQL is away, the reaper frees them instead."""
        try:
            with self.session() as session:
                for consumer, runs in by_consumer:
                    messages.give_back(session, runs, consumer)
        except DatabaseUnavailableError as error:
            log.write(Stage.QUEUE, "not_given_back", level="warning", error=str(error))

    def stop(self) -> None:
        """Mark this process as stopping, so that being killed in the middle counts against no message.

        Where PostgreSQL is away, the row says so as soon as there is a connection again.
        """
        with self._mutex:
            self._stopping = True
            with suppress(DatabaseUnavailableError, PoolerError), self.session() as session:
                if self._id is not None:
                    consumers.stop(session, self._id)

    def close(self) -> None:
        """The lock is gone, and the row too if nothing is held."""
        with self._mutex:
            self._closed = True
            if self._session is not None and self._id is not None:
                # Where it fails the row stays, and whoever looks next clears it.
                with suppress(DatabaseUnavailableError):
                    consumers.unregister(self._session, self._id)
            self._disconnect()
