"""The one connection by which an actor process proves that it lives, and claims what it runs.

It is dedicated, never pooled, and holds a session advisory lock under a random id. Every claimed message
names that id. If the process dies, PostgreSQL drops the lock with the connection, and the next look of any
other consumer (every REAP_SECONDS, and at each start) makes its messages claimable. No clock, no heartbeat
row, and no lock per message.

If the connection is lost while the process lives, it comes back under a new id. Messages whose actors are
still running are adopted under it where nobody reaped them; a message that did not start is dropped and runs
elsewhere. If the process dies
    after the lock, before its row    nothing remains: it held no message
    with messages                     its row and messages remain; the reaper frees them
    in the middle of a claim          the claim is rolled back, or it is committed and reaped
"""

import os
import secrets
import select
import socket
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from time import monotonic

import psycopg2

from actors.capacity import Bell
from actors.held import Held
from gateway import log
from gateway.errors import ConfigurationError, DatabaseUnavailableError
from gateway.log import Stage
from gateway.store import messages
from gateway.store.database import Connection, Session, connect

DEADLINE_SECONDS = 5.0
"""For one claim; must exceed what PostgreSQL takes for one under load, and bounds how long a network that
swallows packets goes unnoticed: the server side gives up our lock in the same time."""

REAP_SECONDS = 2.0
"""Between looks for dead consumers."""

CONNECT_AGAIN_SECONDS = 0.3
"""Between attempts to connect; must be less than the reaper's grace after a restart of PostgreSQL."""

_ID_BITS = 63


class PoolerError(ConfigurationError):
    """Permanent: a pooler in transaction mode stands in between, which gives the lock to a stranger."""


class Liveness:
    """The connection, its id and its lock. One per process; safe across its consumer threads."""

    def __init__(self, dsn: str, *, held: Held, threads: int) -> None:
        self._dsn = dsn
        self._held = held
        self._threads = threads
        self._mutex = threading.RLock()
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._id: int | None = None
        self._lost: int | None = None
        self._server_process = 0
        self._bells: dict[str, Bell] = {}
        self._next_connect = 0.0
        self._next_reap = 0.0
        self._alone: frozenset[str] = frozenset()
        self._closed = False

    @property
    def consumer(self) -> int | None:
        """The id whose lock is held now; None while the connection is lost."""
        return self._id

    def serve(self, queue_name: str, bell: Bell) -> None:
        """Consume this queue from here on; a NOTIFY for it rings the bell."""
        with self._mutex:
            self._bells[queue_name] = bell
            self._announce()

    def leave(self, queue_name: str) -> None:
        """Do not ring for this queue any more."""
        with self._mutex:
            self._bells.pop(queue_name, None)

    # ---- connection ------------------------------------------------------------------------------

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session on the live connection, each statement a transaction of its own.

        Raises:
            DatabaseUnavailableError: there is no connection, or it was lost now; the id is void then.
        """
        with self._mutex:
            session = self._connected()
            try:
                yield session
            except psycopg2.Error as error:
                self._disconnect()
                raise DatabaseUnavailableError(
                    f"the consumer's connection was lost: {' '.join(str(error).split())}"
                ) from error

    def require_session_mode(self) -> None:
        """Return if this connection keeps one server process to itself, or PostgreSQL is away just now.

        A pooler in transaction mode lends the server process that took our lock to whoever asks next: a
        second connection's open transaction takes it away from us here, if it can.

        Raises:
            PoolerError: the lock's server process is not ours alone.
        """
        try:
            with self.session() as session:
                other = connect(
                    self._dsn, application_name="mini-pacs check", deadline_seconds=DEADLINE_SECONDS
                )
                try:
                    # Its transaction keeps it on one server process: on ours, where one is lent around.
                    theirs = messages.begin_on_server_process(Session(other))
                    ours = messages.server_process(session)
                finally:
                    other.close()
        except DatabaseUnavailableError as error:
            log.write(Stage.QUEUE, "database_away", level="warning", error=str(error))
            return
        if ours != self._server_process or theirs == ours:
            self._disconnect()
            raise PoolerError(
                "PostgreSQL is reached through a pooler in transaction mode: the queue's advisory lock would "
                "be lost. Point the actors' DATABASE_URL at PostgreSQL itself, or at a pool in session mode."
            )

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
        except psycopg2.Error as error:
            connection.close()
            raise DatabaseUnavailableError(
                f"the consumer cannot register: {' '.join(str(error).split())}"
            ) from error
        assert self._session is not None
        return self._session

    def _enter(self, connection: Connection) -> None:
        session = Session(connection)
        messages.prepare_consumer(session)
        consumer = secrets.randbits(_ID_BITS)
        server_process = messages.take_lock(session, consumer)
        if server_process is None:
            raise DatabaseUnavailableError("the random id of this consumer is taken; trying another")
        # Only now: a row whose lock is not yet held would be reaped.
        messages.register(
            session,
            consumer,
            host=socket.gethostname(),
            pid=os.getpid(),
            queue_names=sorted(self._bells),
            threads=self._threads,
        )
        # Before the first claim, so that no commit falls between the look and the listening.
        messages.listen(session, list(self._bells))
        # Last: what is adopted under an id that then fails to come alive would be run again.
        if self._lost is not None:
            self._adopt(session, self._lost, consumer)
        self._connection, self._session = connection, session
        self._id, self._server_process = consumer, server_process
        self._next_reap = 0.0
        for bell in self._bells.values():
            bell.ring()

    def _adopt(self, session: Session, lost: int, consumer: int) -> None:
        def adopt(message_ids: Collection[str]) -> frozenset[str]:
            if not message_ids:
                return frozenset()
            messages.acquit(session, message_ids, lost=lost)
            return messages.adopt(session, message_ids, lost=lost, consumer=consumer)

        self._held.rename(adopt, lost, consumer)
        log.write(Stage.QUEUE, "reconnected", level="warning", detail=f"consumer {lost} is now {consumer}")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._id is not None:
            self._lost = self._id
        self._connection = self._session = self._id = None

    def _announce(self) -> None:
        """What is served changed: listen to it, and let our row say so."""
        if self._session is None or self._id is None:
            return  # both are done at connecting
        try:
            with self.session() as session:
                messages.listen(session, list(self._bells))
                messages.serve(session, self._id, list(self._bells))
        except DatabaseUnavailableError:
            pass  # connecting again does both

    # ---- claims ----------------------------------------------------------------------------------

    def claim(
        self, queue_name: str, wanted: int, *, seats: int, alone: bool, floors: Sequence[datetime | None]
    ) -> tuple[messages.Claim, int]:
        """What was claimed, and the id that holds it; what is more than `seats` counts as claimed ahead.

        Raises:
            DatabaseUnavailableError: nothing is ours; what may have been claimed will be reaped.
        """
        with self.session() as session:
            assert self._connection is not None
            assert self._id is not None
            self._pass_on_notifies()  # of other queues, too
            claim = (
                messages.claim_alone(session, queue_name, self._id)
                if alone
                else messages.claim(session, queue_name, wanted, self._id, floors, seats=seats)
            )
            self._pass_on_notifies()
            if alone:
                # Until the next upkeep the others have their turn.
                self._alone -= {queue_name}
            return claim, self._id

    def upkeep(self) -> None:
        """Every REAP_SECONDS the messages of dead consumers are freed, by the first thread that comes by.

        Raises:
            DatabaseUnavailableError: there is no connection.
        """
        if monotonic() < self._next_reap:
            return
        with self.session() as session:
            if monotonic() < self._next_reap:
                return
            self._next_reap = monotonic() + REAP_SECONDS
            reaped = messages.reap(session)
            self._alone = messages.waiting_alone(session, self._bells)
        for one in reaped:
            log.write(
                Stage.QUEUE,
                "consumer_died",
                level="error" if one.buried else "warning",
                count=one.freed,
                detail=f"process {one.pid} on {one.host} is gone; {one.buried} of its messages are dead",
            )

    def someone_waits_alone(self, queue_name: str) -> bool:
        """Tell whether the last upkeep found a message of this queue that must run with no neighbours."""
        return queue_name in self._alone

    def wait(self, bell: Bell, seconds: float) -> None:
        """Return when the bell rings, PostgreSQL notifies or hangs up, or after `seconds`."""
        poller = select.poll()
        poller.register(bell.fileno(), select.POLLIN)
        connection = self._connection
        if connection is not None and not connection.closed:
            # Another thread may close it under us: poll(2) then says POLLNVAL, and we look anew.
            poller.register(connection.fileno(), select.POLLIN)
        ready = poller.poll(seconds * 1000)
        bell.silence()
        if any(descriptor != bell.fileno() for descriptor, _ in ready):
            self._hear()

    def _hear(self) -> None:
        with self._mutex:
            if self._connection is None or self._connection.closed:
                return
            try:
                self._connection.poll()
            except psycopg2.Error:
                # PostgreSQL hung up: the next session() connects anew.
                self._disconnect()
                return
            self._pass_on_notifies()

    def _pass_on_notifies(self) -> None:
        assert self._connection is not None
        if not self._connection.notifies:
            return
        channels = {notify.channel for notify in self._connection.notifies}
        self._connection.notifies.clear()
        for queue_name, bell in self._bells.items():
            if messages.channel(queue_name) in channels:
                bell.ring()

    def bury(self, message_id: str, consumer: int, reason: str) -> None:
        """The message is dead; it was never handed to anybody."""
        with self.session() as session:
            messages.bury(session, message_id, consumer, reason=reason)
        log.write(Stage.QUEUE, "message_dead", level="error", error=reason, detail=f"message {message_id}")

    def give_back(self, by_consumer: Iterable[tuple[int, list[str]]]) -> None:
        """Unstarted messages wait again; where PostgreSQL is away, the reaper frees them instead."""
        try:
            with self.session() as session:
                for consumer, message_ids in by_consumer:
                    messages.give_back(session, message_ids, consumer)
        except DatabaseUnavailableError as error:
            log.write(Stage.QUEUE, "not_given_back", level="warning", error=str(error))

    def close(self) -> None:
        """The lock is gone, and the row too if nothing is held."""
        with self._mutex:
            self._closed = True
            if self._session is not None and self._id is not None:
                # Where it fails the row stays, and whoever looks next clears it.
                with suppress(psycopg2.Error):
                    messages.unregister(self._session, self._id)
            self._disconnect()
