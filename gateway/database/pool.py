"""Lend sessions from a bounded pool of connections: for one transaction, or to commit each statement."""

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import ClassVar

import psycopg2
import psycopg2.extensions as pg

from gateway.database.connection import Connection, connect
from gateway.database.session import Session
from gateway.errors import DatabaseError, DatabaseUnavailableError, OutcomeUnknownError

IDLE_BEFORE_CHECK_SECONDS = 0.5
GUARD_SECONDS = 2.0
"""How long the answer of the guard is valid on one connection."""
RENEW_SECONDS = 1.0
"""An older answer is renewed when the connection comes back, so that few statements wait for the guard."""
NOT_DURABLE = "SET LOCAL synchronous_commit TO off;"

Guard = Callable[[Session], None]
"""Raises a DatabaseError if this database must not be used, because it belongs to another spool."""


class Database:
    """A bounded pool of connections to one database. Safe across threads, and across a fork.

    `guard` is called with each new connection, and again after GUARD_SECONDS. `transaction` and `statement`
    raise its errors. So a process notices that its database was replaced. `prepares`: see
    gateway/database/prepared.py.
    """

    default_deadline_seconds: ClassVar[float] = 10.0

    def __init__(
        self,
        dsn: str,
        *,
        application_name: str,
        size: int = 4,
        deadline_seconds: float | None = None,
        guard: Guard | None = None,
        prepares: bool = False,
    ) -> None:
        self.dsn = dsn
        self.application_name = application_name
        self.deadline_seconds = deadline_seconds or self.default_deadline_seconds
        self._size = size
        self._guard = guard
        self._prepares = prepares
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._slots = threading.BoundedSemaphore(self._size)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []

    @contextmanager
    def transaction(self, *, before: str = "") -> Iterator[Session]:
        """Lend a session; commit when the block ends, roll back when it raises.

        `before` are statements without parameters. They are sent with the first statement of the block.
        If this raises any Exception but OutcomeUnknownError, nothing was committed.
        """
        with self._borrowed() as connection:
            sent = False
            try:
                yield Session(connection, f"BEGIN;{before}", in_transaction=True)
                if connection.info.transaction_status == pg.TRANSACTION_STATUS_IDLE:
                    return  # no statement was run
                sent = True
                commit(Session(connection))
            except DatabaseError:
                _rollback(connection)
                raise
            except Exception as error:
                _rollback(connection)
                if sent:
                    raise OutcomeUnknownError(f"while committing: {type(error).__name__}") from error
                raise
            except BaseException:  # for example Dramatiq's TimeLimitExceeded
                _rollback(connection)
                raise

    @contextmanager
    def statement(self, *, durable: bool = True, guarded: bool = True, before: str = "") -> Iterator[Session]:
        """Lend a session in which each statement is a transaction, committed in its own round trip.

        `durable=False` commits the first statement without waiting for the disk (synchronous_commit off):
        only for what a crash of PostgreSQL may undo without harm, such as a claim. PostgreSQL writes its log
        in order, so the next durable commit of any connection makes it durable, too. `before` are statements
        without parameters, which are part of the first transaction. `guarded=False` does not ask the guard.
        """
        with self._borrowed(guarded=guarded) as connection:
            # statements sent together are one transaction, and SET LOCAL ends with it
            yield Session(connection, before if durable else NOT_DURABLE + before)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _borrowed(self, *, guarded: bool = True) -> Iterator[Connection]:
        if self._process != os.getpid():
            # Dramatiq and the SCP fork: parent and child must not share a connection.
            self._reset()
        if not self._slots.acquire(timeout=self.deadline_seconds):
            raise DatabaseUnavailableError(
                f"all {self._size} connections of this process were busy for {self.deadline_seconds:g} s"
            )
        try:
            connection = self._take()
            try:
                ask(self._guard if guarded else None, connection)
                yield connection
            finally:
                self._give_back(connection, guarded=guarded)
        finally:
            self._slots.release()

    def _take(self) -> Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return connect(
                    self.dsn,
                    application_name=self.application_name,
                    deadline_seconds=self.deadline_seconds,
                    prepares=self._prepares,
                )
            if not _is_stale(connection):
                connection.deadline_seconds = self.deadline_seconds  # it may have been changed
                return connection
            connection.close()

    def _give_back(self, connection: Connection, *, guarded: bool) -> None:
        if connection.closed or connection.info.transaction_status != pg.TRANSACTION_STATUS_IDLE:
            connection.close()
            return
        try:
            ask(self._guard if guarded else None, connection, valid_seconds=RENEW_SECONDS)
        except DatabaseError:
            connection.close()  # the next caller gets a new connection, and the error of the guard
            return
        connection.last_used = monotonic()
        with self._lock:
            self._idle.append(connection)


def ask(guard: Guard | None, connection: Connection, *, valid_seconds: float | None = None) -> None:
    """Call the guard if the connection is new, or the last answer is older than `valid_seconds`.

    The default is GUARD_SECONDS.
    """
    valid = GUARD_SECONDS if valid_seconds is None else valid_seconds
    if guard is not None and monotonic() - connection.guarded_at > valid:
        guard(Session(connection))
        connection.guarded_at = monotonic()


def commit(session: Session) -> None:
    """Commit; the transaction survives a power cut when this returns."""
    session.script("COMMIT")


def _is_stale(connection: Connection) -> bool:
    """Tell whether PostgreSQL closed the connection while it was idle, without a round trip.

    A server that restarts closes its connections. Without this check the next statement would fail, and a
    sender would be refused without need.
    """
    if connection.closed:
        return True
    if monotonic() - connection.last_used < IDLE_BEFORE_CHECK_SECONDS:
        return False
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))


def _rollback(connection: Connection) -> None:
    if connection.closed or connection.info.transaction_status == pg.TRANSACTION_STATUS_IDLE:
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
    except psycopg2.Error:
        # the server rolls back by itself when the connection is closed
        connection.close()
