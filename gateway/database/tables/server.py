"""What PostgreSQL itself is doing: sessions, locks, connections, commits that wait.

Every statement here reads only views of PostgreSQL, over a connection of its own with a short timeout. So it
answers while the tables of the edge are locked.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.database.connection import connect
from gateway.database.queries import load
from gateway.database.session import Session
from gateway.errors import DatabaseError, DatabaseRefusedError

CONNECT_SECONDS = 2.0
STATEMENT_SECONDS = 2.0
APPLICATION = "mini-pacs diagnose"

_Q = load("server")
_DISK_FULL = "53100"


class Server(NamedTuple):
    """State and limits; a limit of -1 means none. `clock` is the time of PostgreSQL."""

    database: str
    user: str
    now: datetime
    clock: datetime
    is_standby: bool
    is_read_only: bool
    max_connections: int
    reserved: int
    connections: int
    database_limit: int
    role_limit: int
    in_database: int
    of_role: int
    standby_names: str
    waits_for_standby: bool
    standbys: int


class Blocker(NamedTuple):
    """A session that `waiting` others wait for, the longest for `longest` seconds."""

    pid: int
    application: str
    user: str
    address: str
    state: str
    seconds: float
    statement: str
    waiting: int
    longest: float
    applications: str


class Locker(NamedTuple):
    """A session that holds a strong lock on tables of the edge."""

    pid: int
    application: str
    user: str
    address: str
    state: str
    seconds: float
    statement: str
    tables: str


class OpenTransaction(NamedTuple):
    """A transaction that is idle, or open for long."""

    pid: int
    application: str
    user: str
    address: str
    state: str
    seconds: float
    idle_seconds: float
    statement: str
    holds_horizon: bool

    @property
    def is_idle(self) -> bool:
        """Whether it does nothing."""
        return self.state.startswith("idle in transaction")


class User(NamedTuple):
    """How many connections an application has."""

    application: str
    user: str
    address: str
    connections: int


class SearchPath(NamedTuple):
    """Where this role looks for a table, and the schemas that have one of that name; empty if none has."""

    search_path: str
    is_found: bool
    schemas: str


@dataclass(frozen=True, slots=True)
class WaitingCommits:
    """Commits that wait for a synchronous standby, the longest for `seconds`."""

    count: int
    seconds: float


class Prepared(NamedTuple):
    """A prepared transaction that was not ended."""

    gid: str
    user: str
    seconds: float


class TableSize(NamedTuple):
    """The size of a table."""

    name: str
    bytes: int
    estimated_rows: int


@contextmanager
def observed(dsn: str) -> Iterator[Session]:
    """Lend a session on a connection of its own.

    Raises:
        DatabaseError: PostgreSQL cannot be reached within CONNECT_SECONDS, or refuses the login.
    """
    connection = connect(
        dsn,
        application_name=APPLICATION,
        deadline_seconds=STATEMENT_SECONDS,
        connect_seconds=CONNECT_SECONDS,
    )
    try:
        yield Session(connection)
    finally:
        connection.close()


def server(session: Session) -> Server:
    """Return the state of the server."""
    return session.only(Server, _Q["server"])


def blockers(session: Session) -> list[Blocker]:
    """Return the sessions that others wait for."""
    return session.rows(Blocker, _Q["blockers"])


def lockers(session: Session, *, older: timedelta) -> list[Locker]:
    """Return the sessions that have held a lock on a table of the edge for longer than `older`."""
    return session.rows(Locker, _Q["lockers"], older=older)


def open_transactions(session: Session, *, idle: timedelta, open_for: timedelta) -> list[OpenTransaction]:
    """Return the transactions that are idle for `idle`, or open for `open_for`."""
    return session.rows(OpenTransaction, _Q["idle"], idle=idle, open=open_for)


def users(session: Session) -> list[User]:
    """Return who has the most connections."""
    return session.rows(User, _Q["users"])


def waiting_commits(session: Session) -> WaitingCommits:
    """Return the commits that wait for a standby."""
    return session.only(WaitingCommits, _Q["waiting_commits"])


def prepared(session: Session, *, older: timedelta) -> list[Prepared]:
    """Return the prepared transactions older than `older`."""
    return session.rows(Prepared, _Q["prepared"], older=older)


def search_path(session: Session, table: str) -> SearchPath:
    """Return where this role looks for a table, and where it is."""
    return session.only(SearchPath, _Q["search_path"], table=table)


def missing_privileges(session: Session, tables: list[str]) -> list[str]:
    """Return which of these tables the role may not read."""
    return session.values(_Q["missing_privileges"], tables=tables)


def data_directory(session: Session) -> str | None:
    """Return where PostgreSQL has its files; None if the role may not see it."""
    found: str | None = session.value(_Q["data_directory"])
    return found


def disk_error(session: Session) -> str:
    """Return why PostgreSQL's disk takes no more data; empty if it does, or if this role may not try."""
    try:
        session.script("BEGIN")
        session.run(_Q["begin_write"])
    except DatabaseRefusedError:
        return ""
    except DatabaseError as error:
        return str(error) if _DISK_FULL in str(error) else ""
    finally:
        with suppress(DatabaseError):
            session.script("ROLLBACK")
    return ""


def sizes(session: Session) -> list[TableSize]:
    """Return the size of each table."""
    return session.rows(TableSize, _Q["sizes"])


def version(session: Session) -> str:
    """Return the version of PostgreSQL."""
    return str(session.value(_Q["version"]))
