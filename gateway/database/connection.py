"""Connections, transactions, and the translation of psycopg2's errors into ours.

A `Session` runs named queries inside one transaction; `Database` lends sessions from a bounded pool.
What an error proves is decided here, because only here is it known what had been sent:

    DatabaseUnavailableError  nothing was committed (no connection, or lost before the commit was sent)
    OutcomeUnknownError       the commit was sent and its answer did not come: it may stand
    DatabaseRefusedError      PostgreSQL answered with an error: nothing was committed

PostgreSQL that is stopped but not dead (SIGSTOP, a hung disk) keeps its sockets open, so TCP never
tells: every wait for an answer ends at a deadline of our own (`_wait`).
"""

import os
import re
import select
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, ClassVar, NoReturn

import psycopg2
import psycopg2.extensions as pg

from gateway.database import dsn as dsn_text
from gateway.database.queries import Query
from gateway.errors import (
    ConfigurationError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    OutcomeUnknownError,
)

CONNECT_SECONDS = 5.0
IDLE_BEFORE_CHECK_SECONDS = 0.5
_AT_SERVER = re.compile(r"connection to server (?:at|on) .*? failed: ")
Row = tuple[Any, ...]


class _DeadlineError(psycopg2.OperationalError):
    """PostgreSQL did not answer in time; psycopg2 closes the connection when this is raised."""


class Connection(pg.connection):
    """A psycopg2 connection that waits for no answer longer than `deadline_seconds`."""

    deadline_seconds: float = CONNECT_SECONDS
    last_used: float = 0.0
    meanwhile: Callable[[], None] | None = None
    """What is done here while PostgreSQL works on the statement that is sent next."""
    failure: BaseException | None = None
    """What `meanwhile` raised. Raised in the wait, it would cost the connection."""


def _wait(connection: pg.connection) -> None:
    seconds = getattr(connection, "deadline_seconds", CONNECT_SECONDS)
    limit = monotonic() + seconds
    while True:
        state = connection.poll()
        if state == pg.POLL_OK:
            return
        if state == pg.POLL_READ and isinstance(connection, Connection) and connection.meanwhile is not None:
            work, connection.meanwhile = connection.meanwhile, None
            try:
                work()
            except BaseException as error:  # noqa: BLE001  raised by the session, once the answer is read
                connection.failure = error
            limit = monotonic() + seconds
            continue
        # poll(2), because select(2) breaks above 1024 descriptors and a receiver may hold more
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN if state == pg.POLL_READ else select.POLLOUT)
        left = limit - monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            raise _DeadlineError(f"PostgreSQL did not answer within {seconds:g} s")


pg.set_wait_callback(_wait)


def dsn_from_environment() -> str:
    """`DATABASE_URL`, else a DSN of POSTGRES_HOST, _PORT, _DB, _USER and _PASSWORD (default mini_pacs).

    Raises:
        ConfigurationError: that is none; says what is expected and quotes nothing of it.
    """
    url = os.environ.get("DATABASE_URL")
    if url:
        return dsn_text.checked(url)
    port = os.environ.get("POSTGRES_PORT") or "5432"
    if not dsn_text.is_port(port):
        raise ConfigurationError(f"POSTGRES_PORT = {port!r}: a port from 1 to 65535 is expected")
    given = {
        "host": os.environ.get("POSTGRES_HOST", "127.0.0.1"),
        "port": port,
        "dbname": os.environ.get("POSTGRES_DB", "mini_pacs"),
        "user": os.environ.get("POSTGRES_USER", "mini_pacs"),
        "password": os.environ.get("POSTGRES_PASSWORD"),
    }
    return str(pg.make_dsn(**{key: value for key, value in given.items() if value is not None}))


def connect(dsn: str, *, application_name: str, deadline_seconds: float) -> Connection:
    """A connection of one's own, outside of any pool, in autocommit.

    Raises:
        DatabaseUnavailableError: PostgreSQL cannot be reached, or refuses the connection.
    """
    connection = _connect_to_any(dsn_text.each_address(dsn), application_name)
    connection.deadline_seconds = deadline_seconds
    connection.autocommit = True
    return connection


def _connect_to_any(addresses: list[str], application_name: str) -> Connection:
    *others, last = addresses
    for address in others:
        with suppress(psycopg2.Error):  # the next one may answer
            return _connect_to(address, application_name)
    try:
        return _connect_to(last, application_name)
    except psycopg2.Error as error:
        hosts = ", ".join(map(dsn_text.where, addresses))
        raise DatabaseUnavailableError(
            f"cannot connect to PostgreSQL at {hosts}: {_sentence(error)}"
        ) from error


def _connect_to(address: str, application_name: str) -> Connection:
    connection: Connection = psycopg2.connect(
        address,
        connection_factory=Connection,
        application_name=application_name,
        keepalives=1,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
        # A lost client's open transaction would hold its rows against everybody. Compiling a statement
        # that takes a millisecond takes a quarter of a second: where PostgreSQL can, each claim did.
        options="-c idle_in_transaction_session_timeout=60s -c timezone=UTC -c jit=off",
    )
    return connection


class Session:
    """Runs named queries on one connection, inside the transaction of its giver.

    `opening` goes in front of the first statement, in its round trip: BEGIN.
    """

    def __init__(self, connection: Connection, opening: str = "") -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._opening = opening

    def _execute(self, statement: str, parameters: Mapping[str, object] | None) -> None:
        opening, self._opening = self._opening, ""
        try:
            self._cursor.execute(opening + statement, parameters)
        except ValueError as error:
            # psycopg2 sends no NUL in a text, and no text that UTF-8 has not: nothing went to PostgreSQL.
            raise DatabaseRefusedError(f"PostgreSQL takes no such text: {error}") from error
        finally:
            # Before what PostgreSQL says: a collision is tried again, and an fsync that failed may succeed
            # then though the bytes are lost. Nor may it stay here, for the connection goes to another.
            failure, self._connection.failure = self._connection.failure, None
            if failure is not None:
                raise failure

    def all(self, query: Query, /, **parameters: object) -> list[Row]:
        """Every row of `query`."""
        self._execute(query.sql, parameters)
        return list(self._cursor.fetchall())

    def one(self, query: Query, /, **parameters: object) -> Row | None:
        """The first row of `query`, or None."""
        self._execute(query.sql, parameters)
        row: Row | None = self._cursor.fetchone()
        return row

    def run(self, query: Query, /, **parameters: object) -> int:
        """Execute `query`; the count of rows that it touched."""
        self._execute(query.sql, parameters)
        return self._cursor.rowcount

    def script(self, statements: str) -> None:
        """Execute statements without parameters: migrations."""
        self._execute(statements, None)


class Database:
    """A bounded pool of connections to one database. Safe across threads, and across a fork."""

    default_deadline_seconds: ClassVar[float] = 10.0

    def __init__(
        self, dsn: str, *, application_name: str, size: int = 4, deadline_seconds: float | None = None
    ) -> None:
        self.dsn = dsn
        self.application_name = application_name
        self.deadline_seconds = deadline_seconds or self.default_deadline_seconds
        self._size = size
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._slots = threading.BoundedSemaphore(self._size)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []

    @contextmanager
    def transaction(self, *, meanwhile: Callable[[], None] | None = None) -> Iterator[Session]:
        """A session whose work is committed when the block ends, and rolled back when it raises.

        `meanwhile` is called while PostgreSQL works on the first statement; that raises what it raises.
        Whatever Exception is raised, nothing was committed, unless it is OutcomeUnknownError.
        """
        with self._borrowed() as connection:
            sent = False
            try:
                connection.meanwhile, connection.failure = meanwhile, None
                yield Session(connection, "BEGIN;")
                if connection.info.transaction_status == pg.TRANSACTION_STATUS_IDLE:
                    return  # no statement was run
                sent = True
                commit(Session(connection))
            except psycopg2.Error as error:
                _rollback(connection)
                _translate(error, dsn_text.where(self.dsn), commit_sent=sent)
            except Exception as error:
                _rollback(connection)
                if sent:
                    raise OutcomeUnknownError(f"while committing: {type(error).__name__}") from error
                raise
            except BaseException:  # the thread is told to end
                _rollback(connection)
                raise
            finally:
                connection.meanwhile = None  # where no statement came to be sent

    @contextmanager
    def statement(self, *, durable: bool = True) -> Iterator[Session]:
        """A session in which each statement is a transaction of its own: one round trip, commit included.

        `durable=False` commits the first without waiting for the disk (synchronous_commit off): only for
        what a crash may undo harmlessly, such as a claim.
        """
        with self._borrowed() as connection:
            try:
                # statements sent together are one transaction, and SET LOCAL ends with it
                yield Session(connection, "" if durable else "SET LOCAL synchronous_commit TO off;")
            except psycopg2.Error as error:
                _translate(error, dsn_text.where(self.dsn), commit_sent=True)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _borrowed(self) -> Iterator[Connection]:
        if self._process != os.getpid():
            # Dramatiq and the SCP fork: a connection of the parent must not be spoken on by two.
            self._reset()
        if not self._slots.acquire(timeout=self.deadline_seconds):
            raise DatabaseUnavailableError(
                f"all {self._size} connections of this process were busy for {self.deadline_seconds:g} s"
            )
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._slots.release()

    def _take(self) -> Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return connect(
                    self.dsn, application_name=self.application_name, deadline_seconds=self.deadline_seconds
                )
            if not _is_stale(connection):
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        if connection.closed or connection.info.transaction_status != pg.TRANSACTION_STATUS_IDLE:
            connection.close()
            return
        connection.last_used = monotonic()
        with self._lock:
            self._idle.append(connection)


def commit(session: Session) -> None:
    """The transaction stands when this returns."""
    session.script("COMMIT")


def _is_stale(connection: Connection) -> bool:
    """Tell whether PostgreSQL hung up while the connection was idle, without a round trip.

    A server that restarts closes its connections; without this look the first user after it would
    fail for nothing, and a sender would be refused.
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
        # the server rolls back by itself when the connection goes
        connection.close()


_MAY_FOLLOW_A_COMMIT = ("57P", "08", "XX")
"""Error classes after which a commit may stand: shutdown, connection, internal error."""

_OUT_OF_RESOURCES = "53"
"""The error class of a full disk, of memory and connections: transient, and nothing was committed."""


def _translate(error: psycopg2.Error, where: str, *, commit_sent: bool) -> NoReturn:
    code = error.pgcode
    sentence = _sentence(error)
    lost = code is None or code.startswith(_MAY_FOLLOW_A_COMMIT)
    if lost and commit_sent:
        raise OutcomeUnknownError(f"PostgreSQL at {where} was lost while committing: {sentence}") from error
    if lost:
        raise DatabaseUnavailableError(f"PostgreSQL at {where} was lost: {sentence}") from error
    if code is not None and code.startswith(_OUT_OF_RESOURCES):
        raise DatabaseUnavailableError(
            f"PostgreSQL at {where} is out of resources ({code}): {sentence}"
        ) from error
    raise DatabaseRefusedError(f"PostgreSQL at {where} refused ({code}): {sentence}", code or "") from error


def _sentence(error: psycopg2.Error) -> str:
    """The primary message only: DETAIL and CONTEXT may quote values of a row."""
    primary = error.diag.message_primary if error.pgcode else None
    text = primary or " ".join(str(error).split()) or type(error).__name__
    # where host and port are said before; several addresses of one name are worth naming
    return _AT_SERVER.sub("", text) if len(_AT_SERVER.findall(text)) == 1 else text
