"""Hold the connection by which an actor process proves that it is alive, and by which it claims messages.

The connection belongs to this process alone and holds a session advisory lock under a random id. Every
claimed message names that id. If the process dies, PostgreSQL drops the lock with the connection, and another
process frees its messages (`actors.queue.reaper`). No heartbeat, clock or lock per message is needed.

If only the connection is lost, the process comes back under a new id. Every message that this process holds
is adopted (`actors.queue.adoption`). One that would begin while there is no id, or that a reaper freed, is
dropped (`actors.middleware.stale_claim`).

If the process dies
    while it registers        see `actors.queue.registration`; it holds no message yet
    while it holds messages   its row and the messages remain; the reaper frees them
    in the middle of a claim  PostgreSQL rolls the claim back; or it is committed, and the reaper frees the
                              messages
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from time import monotonic

from actors.queue.adoption import adopt
from actors.queue.event import PollableEvent
from actors.queue.in_flight import InFlightMessages
from actors.queue.notifications import Notifications, poll
from actors.queue.pooler import PoolerError
from actors.queue.reaper import Reaper
from actors.queue.registration import register, take_id
from gateway import log
from gateway.database.connection import Connection, connect
from gateway.database.pool import Guard, ask
from gateway.database.session import DedicatedSession, Session
from gateway.database.tables import consumers, messages
from gateway.errors import DatabaseUnavailableError, UnknownSpoolError
from gateway.log import Stage

DEADLINE_SECONDS = 5.0
"""For one statement; must exceed the time of a claim under load. A network that drops packets is noticed
after this time. PostgreSQL drops our lock in the same time (`configure_consumer` in queue.sql)."""

CONNECT_AGAIN_SECONDS = 0.3
"""Between attempts to connect; must be much shorter than RECONNECT_GRACE_SECONDS of the reaper."""


class Liveness:
    """The connection of one process, with its id and its lock; safe across the consumer threads.

    While the `guard` raises, this process has no id and claims nothing; see gateway/database/pool.py.
    """

    def __init__(
        self, dsn: str, *, in_flight: InFlightMessages, threads: int, guard: Guard | None = None
    ) -> None:
        self._dsn = dsn
        self._guard = guard
        self._in_flight = in_flight
        self._threads = threads
        self._mutex = threading.RLock()
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._id: int | None = None
        self._lost: list[int] = []  # earlier ids that rows may still name
        self._is_session_mode = False
        self._notifications = Notifications()
        self._next_connect = 0.0
        self._reaper = Reaper()
        self._exclusive: frozenset[str] = frozenset()  # queues with a message that must run without others
        self._stopping = False
        self._closed = False

    @property
    def consumer(self) -> int | None:
        """The id whose lock this process holds; None while the connection is lost."""
        return self._id

    def serve(self, queue_name: str, event: PollableEvent) -> None:
        """Consume a queue: set `event` at each notification for it."""
        with self._mutex:
            self._notifications.add(queue_name, event)
            self._announce()

    def leave(self, queue_name: str) -> None:
        """Stop consuming a queue."""
        with self._mutex:
            self._notifications.remove(queue_name)

    # ---- connection ------------------------------------------------------------------------------

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Lend the session of the connection; connect first if it was lost. Each statement commits.

        Raises:
            DatabaseUnavailableError: there is no connection, or it was lost; this process has no id then.
            PoolerError: a pooler in transaction mode stands between this process and PostgreSQL.
        """
        with self._mutex:
            session = self._connected()
            try:
                yield session
            except DatabaseUnavailableError as error:
                self._disconnect()
                raise DatabaseUnavailableError(f"the consumer's connection was lost: {error}") from error

    def begin(self) -> None:
        """Connect. If PostgreSQL is away, log it; the consumers connect later.

        Raises:
            PoolerError: a pooler in transaction mode stands between this process and PostgreSQL.
        """
        try:
            with self.session():
                pass
        except DatabaseUnavailableError as error:
            log.write(Stage.QUEUE, "database_away", level="warning", error=str(error))

    def _connected(self) -> Session:
        if self._session is not None and self._connection is not None and not self._connection.closed:
            try:
                ask(self._guard, self._connection)
            except DatabaseUnavailableError:
                self._disconnect()
                raise
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
            ask(self._guard, connection)  # before anything is written
            self._register(connection)
        except PoolerError:
            connection.close()
            self._closed = True  # another attempt would fail as well
            raise
        except UnknownSpoolError:
            connection.close()
            raise
        except DatabaseUnavailableError as error:
            connection.close()
            raise DatabaseUnavailableError(f"the consumer cannot register: {error}") from error
        assert self._session is not None
        return self._session

    def _register(self, connection: Connection) -> None:
        """Take a new id, and adopt the messages that this process holds under earlier ones."""
        session = DedicatedSession(connection)
        consumer = take_id(
            session, self._dsn, is_session_mode=self._is_session_mode, deadline_seconds=DEADLINE_SECONDS
        )
        self._is_session_mode = True
        register(
            session,
            consumer,
            queue_names=self._notifications.queue_names,
            threads=self._threads,
            stopping=self._stopping,
        )
        # Adopt last. If a later step failed, the new id would be given up, and its messages would run twice.
        if lost := tuple(self._lost):
            # Remember the new id first: if the answer of the adoption is lost, rows may name it.
            self._lost.append(consumer)
            adopt(session, self._in_flight, lost, consumer)
        self._reaper.begin(session)
        self._lost.clear()
        self._connection, self._session, self._id = connection, session, consumer
        self._notifications.set_all()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._id is not None:
            self._lost.append(self._id)
            # Connect at the next upkeep, also if all threads are busy: other processes may free our messages
            # soon.
            self._reaper.check_now()
        self._connection = self._session = self._id = None

    def _announce(self) -> None:
        """Listen to the queues that are consumed now, and write them to the row of this process."""
        if self._session is None or self._id is None:
            return  # `_register` does both
        try:
            with self.session() as session:
                messages.listen(session, self._notifications.queue_names)
                consumers.serve(session, self._id, self._notifications.queue_names)
        except DatabaseUnavailableError:
            pass  # safe: `_register` does both at the next connection

    # ---- claims ----------------------------------------------------------------------------------

    def claim(
        self,
        queue_name: str,
        event: PollableEvent,
        wanted: int,
        *,
        slots: int,
        exclusive: bool,
        floors: Sequence[datetime | None],
        terms: messages.Terms | None = None,
    ) -> tuple[messages.MessageClaim, int]:
        """Claim up to `wanted` messages; return them, and the id that holds them.

        Those beyond `slots` count as claimed ahead. `exclusive` claims one that must run without others.
        With `terms` the deliveries of the messages are claimed, too. Afterwards `event`, that of the queue,
        is set only if there may be messages that this claim did not see.

        Raises:
            DatabaseUnavailableError: nothing was claimed, or a reaper frees what was claimed.
        """
        with self.session() as session:
            assert self._connection is not None
            assert self._id is not None
            # This connection also receives the notifications of other queues.
            self._notifications.pass_on(self._connection.take_notifies())
            # What was notified before is committed, and the claim sees it.
            event.clear()
            claim = (
                messages.claim_exclusive(session, queue_name, self._id)
                if exclusive
                else messages.claim(session, queue_name, wanted, self._id, floors, slots=slots, terms=terms)
            )
            self._notifications.pass_on(self._connection.take_notifies())
            if exclusive:
                # Until the next upkeep, claim the other messages of the queue.
                self._exclusive -= {queue_name}
            return claim, self._id

    def upkeep(self) -> None:
        """Free the messages of processes that are gone, if it is time; one thread of the process does it.

        Raises:
            DatabaseUnavailableError, PoolerError: as `session`.
        """
        if self._reaper.seconds_to_check > 0:
            return
        with self.session() as session:
            if self._reaper.seconds_to_check > 0:
                return
            self._reaper.check(session)
            self._exclusive = messages.waiting_exclusive(session, self._notifications.queue_names)

    def has_exclusive(self, queue_name: str) -> bool:
        """Tell whether the last upkeep found a message of this queue that must run without others."""
        return queue_name in self._exclusive

    def wait(self, event: PollableEvent, seconds: float) -> None:
        """Wait for `seconds`, or until `event` is set, PostgreSQL sends or disconnects, or upkeep is due."""
        seconds = max(min(seconds, self._reaper.seconds_to_check), 0.0)
        if poll(event, self._connection, seconds):
            self._read_notifications()

    def _read_notifications(self) -> None:
        with self._mutex:
            if self._connection is None or self._connection.closed:
                return
            try:
                channels = self._connection.receive_notifies()
            except DatabaseUnavailableError:
                # PostgreSQL closed the connection: the next session() connects anew.
                self._disconnect()
                return
            self._notifications.pass_on(channels)

    # ---- the end of the process ------------------------------------------------------------------

    def stop(self) -> None:
        """Mark this process as stopping: if it is killed now, no message counts a death.

        If PostgreSQL is away, the next connection writes the mark.
        """
        with self._mutex:
            self._stopping = True
            with suppress(DatabaseUnavailableError, PoolerError), self.session() as session:
                if self._id is not None:
                    consumers.stop(session, self._id)

    def close(self) -> None:
        """Give up the lock, and delete the row unless messages name it."""
        with self._mutex:
            self._closed = True
            if self._session is not None and self._id is not None:
                # Safe to ignore: the row remains, and a reaper removes it.
                with suppress(DatabaseUnavailableError):
                    consumers.unregister(self._session, self._id)
            self._disconnect()
