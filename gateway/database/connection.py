"""Open connections to PostgreSQL on which each wait for an answer has a deadline.

A PostgreSQL that hangs (SIGSTOP, a disk that does not answer) keeps its sockets open, and TCP reports
nothing. So each wait for an answer ends at a deadline, and the connection is closed then.
"""

import select
from contextlib import suppress
from time import monotonic

import psycopg2
import psycopg2.extensions as pg

from gateway.database import dsn as dsn_text
from gateway.database.failure import refuses_login, sentence_of, translated
from gateway.errors import DatabaseLoginError, DatabaseUnavailableError

CONNECT_SECONDS = 5.0

# idle_in_transaction: the open transaction of a lost client would keep its rows locked.
# jit: compiling takes a quarter of a second, for statements that take a millisecond.
# statement_timeout, lock_timeout: the edge sets its own deadlines; those of a role may be too short.
OPTIONS = (
    "-c idle_in_transaction_session_timeout=60s -c timezone=UTC -c jit=off"
    " -c statement_timeout=0 -c lock_timeout=0"
)

IDLE_SESSION_VERSION = 140_000
"""PostgreSQL 14 and later can end idle sessions. Consumers listen on them, so connections switch it off."""
TRANSACTION_TIMEOUT_VERSION = 170_000
"""PostgreSQL 17 and later can end long transactions, such as a migration. Connections switch it off, too."""

PREPARED_OPTIONS = "-c enable_seqscan=off"
"""Plans of prepared statements are kept, also if they were made while a table was small."""


class _DeadlineError(psycopg2.OperationalError):
    """PostgreSQL did not answer in time; psycopg2 closes the connection when this is raised."""


class Connection(pg.connection):
    """A psycopg2 connection that waits for no answer longer than `deadline_seconds`."""

    deadline_seconds: float = CONNECT_SECONDS
    last_used: float = 0.0
    prepared: set[str] | None = None
    """The names of the statements that were prepared on it; None before the first one."""
    guarded_at: float = float("-inf")
    """When the guard of the pool was asked last; see gateway/database/pool.py."""
    prepares: bool = False
    """Whether statements may be prepared; decided at the first one, see gateway/database/prepared.py."""
    where: str = "an unknown address"
    """Host and port of the server, for messages."""

    def descriptor(self) -> int | None:
        """Return the file descriptor to poll; None if the connection is closed, perhaps by another thread."""
        try:
            return self.fileno()
        except psycopg2.Error:
            return None

    def receive_notifies(self) -> set[str]:
        """Read what has arrived without waiting, and return the channels that were notified.

        Raises:
            DatabaseUnavailableError: PostgreSQL closed the connection.
        """
        try:
            self.poll()
        except psycopg2.Error as error:
            raise translated(error, self.where, commit_sent=False) from error
        return self.take_notifies()

    def take_notifies(self) -> set[str]:
        """Return, and forget, the notified channels that earlier statements have read from the socket."""
        channels = {notify.channel for notify in self.notifies}
        self.notifies.clear()
        return channels


def _wait(connection: pg.connection) -> None:
    seconds = getattr(connection, "deadline_seconds", CONNECT_SECONDS)
    limit = monotonic() + seconds
    while True:
        state = connection.poll()
        if state == pg.POLL_OK:
            return
        # poll(2), because select(2) breaks above 1024 descriptors and a receiver may hold more
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN if state == pg.POLL_READ else select.POLLOUT)
        left = limit - monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            raise _DeadlineError(f"PostgreSQL did not answer within {seconds:g} s")


pg.set_wait_callback(_wait)


def connect(
    dsn: str,
    *,
    application_name: str,
    deadline_seconds: float,
    connect_seconds: float = CONNECT_SECONDS,
    prepares: bool = False,
) -> Connection:
    """Open a connection outside of any pool, in autocommit.

    `connect_seconds` limits each wait while connecting, `deadline_seconds` each wait afterwards. With
    `prepares` the statements that are marked so are prepared on it.

    Raises:
        DatabaseLoginError: PostgreSQL refuses the login.
        DatabaseUnavailableError: PostgreSQL cannot be reached, starts, stops, or has no connection left.
    """
    options = f"{OPTIONS} {PREPARED_OPTIONS}" if prepares else OPTIONS
    connection = _connect_to_any(dsn_text.each_address(dsn), application_name, connect_seconds, options)
    connection.where = dsn_text.where(dsn)
    connection.deadline_seconds = deadline_seconds
    connection.autocommit = True
    connection.prepares = prepares
    return connection


def _connect_to_any(addresses: list[str], application_name: str, seconds: float, options: str) -> Connection:
    *others, last = addresses
    for address in others:
        with suppress(psycopg2.Error):  # the next one may answer
            return _connect_to(address, application_name, seconds, options)
    try:
        return _connect_to(last, application_name, seconds, options)
    except psycopg2.Error as error:
        hosts = ", ".join(map(dsn_text.where, addresses))
        kind = DatabaseLoginError if refuses_login(error) else DatabaseUnavailableError
        raise kind(f"cannot connect to PostgreSQL at {hosts}: {sentence_of(error)}") from error


def _connect_to(address: str, application_name: str, seconds: float, options: str) -> Connection:
    class Connecting(Connection):
        deadline_seconds = seconds  # psycopg2 waits while it connects, before an attribute can be set

    connection: Connection = psycopg2.connect(
        address,
        connection_factory=Connection if seconds == CONNECT_SECONDS else Connecting,
        application_name=application_name,
        keepalives=1,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
        options=options,
    )
    if connection.server_version >= IDLE_SESSION_VERSION:
        connection.autocommit = True
        with connection.cursor() as cursor:
            names = ["idle_session_timeout"]
            if connection.server_version >= TRANSACTION_TIMEOUT_VERSION:
                names.append("transaction_timeout")
            cursor.execute("; ".join(f"SET {name} = 0" for name in names))
    return connection
