"""Judge what PostgreSQL says of itself: clock, role, used connections, standbys, privileges, disk.

postgres.py asks it, and finds out why if it cannot be asked. What its sessions wait for is in sessions.py.
"""

import os
import shutil
from collections.abc import Iterator

from gateway.database.session import Session
from gateway.database.tables import server
from gateway.database.tables.server import Server
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.diagnosis.sessions import locks, transactions
from gateway.times import span

WAITS_SECONDS = 2.0
NEARLY_USED = 0.9
CLOCK_SECONDS = 2.0
DISK_BYTES = 256 << 20
SEARCH_PATH = "postgres.search_path"
AWAY = (
    "the edge still receives, for edge.max_unregistered_hours; nothing is forwarded until PostgreSQL is "
    "back; nothing is lost"
)
"""What it means for images that PostgreSQL cannot be used."""

_TABLES = {
    "instances", "deliveries", "attempts", "expected_results", "destinations", "sweeps", "faults", "spool",
    "schema_migrations", "suspects", "repeats",
}  # fmt: skip


def sources_of(
    session: Session, state: Server, where: str, *, clock_offset: float, tries_to_write: bool
) -> tuple[Iterator[Finding], ...]:
    """Return the sources of findings; each may raise DatabaseRefusedError if this role may not see that.

    `where` names the server, and `clock_offset` is in seconds. With `tries_to_write`, it tries the disk.
    """
    return (
        _clock(clock_offset),
        _read_only(state, where),
        _connections(session, state, where),
        _standbys(session, state),
        locks(session, state),
        transactions(session, state),
        _search_path(session, state),
        _privileges(session, state),
        _disk(session, state, tries_to_write=tries_to_write),
    )


def _clock(offset: float) -> Iterator[Finding]:
    if abs(offset) > CLOCK_SECONDS:
        side = "ahead of" if offset > 0 else "behind"
        yield problem(
            "clock.postgres",
            f"The clock of PostgreSQL is {span(abs(offset))} {side} that of this host",
            "deadlines of results, retention and times on the screen are wrong by this time",
            "let both hosts use the same NTP server (`chronyc tracking`, `timedatectl`)",
            holds=Holds.LATER,
        )


def _read_only(state: Server, where: str) -> Iterator[Finding]:
    if state.is_standby:
        yield problem(
            "postgres.standby",
            f"PostgreSQL ({where}) is a standby: it takes no changes",
            AWAY,
            "let DATABASE_URL name the primary, or promote this one: `SELECT pg_promote()`",
            holds=Holds.ALL,
        )
    elif state.is_read_only:
        yield problem(
            "postgres.read_only",
            f"PostgreSQL ({where}) is read-only: default_transaction_read_only is on",
            AWAY,
            f"`ALTER DATABASE {state.database} RESET default_transaction_read_only`, or the same for "
            f"`ALTER ROLE {state.user}`, or `ALTER SYSTEM` and `SELECT pg_reload_conf()`",
            holds=Holds.ALL,
        )


def _connections(session: Session, state: Server, where: str) -> Iterator[Finding]:
    database, role = f"DATABASE {state.database}", f"ROLE {state.user}"
    no_limit = "CONNECTION LIMIT -1` (-1: no limit)"
    for used, limit, name, more in (
        (
            state.connections,
            state.max_connections - state.reserved,
            "max_connections",
            "raise max_connections in postgresql.conf",
        ),
        (
            state.in_database,
            state.database_limit,
            f"the connection limit of database {state.database}",
            f"raise its limit: `ALTER {database} {no_limit}",
        ),
        (
            state.of_role,
            state.role_limit,
            f"the connection limit of role {state.user}",
            f"raise its limit: `ALTER {role} {no_limit}",
        ),
    ):
        if limit > 0 and used >= limit * NEARLY_USED:
            who = ", ".join(
                f"{one.connections} by {one.application} ({one.user}, {one.address})"
                for one in server.users(session)
            )
            full = used >= limit
            make = problem if full else note
            yield make(
                "postgres.connections",
                f"PostgreSQL ({where}) has {used} of {limit} connections in use ({name}): {who}",
                "processes of the edge that connect now cannot work" if full else "few are left",
                f"end the program that holds them, or {more}",
                holds=Holds.ALL if full else Holds.LATER,
            )
            return


def _standbys(session: Session, state: Server) -> Iterator[Finding]:
    remedy = (
        "start the standby, or do without it: `ALTER SYSTEM SET synchronous_standby_names = ''`, "
        "`SELECT pg_reload_conf()`"
    )
    waiting = server.waiting_commits(session)
    if waiting.count and waiting.seconds > WAITS_SECONDS:
        yield problem(
            "postgres.commits_hang",
            f"{waiting.count} commits wait for a synchronous standby, the longest for "
            f"{span(waiting.seconds)} (synchronous_standby_names = {state.standby_names!r})",
            "nothing is registered or forwarded; what is received stays in the spool",
            remedy,
            holds=Holds.ALL,
        )
    elif state.standby_names and state.waits_for_standby and not state.standbys:
        yield problem(
            "postgres.commits_hang",
            "PostgreSQL waits with each commit for a synchronous standby, and none is connected "
            f"(synchronous_standby_names = {state.standby_names!r})",
            "nothing is registered or forwarded; what is received stays in the spool",
            remedy,
            holds=Holds.ALL,
        )


def _search_path(session: Session, state: Server) -> Iterator[Finding]:
    """Yield a finding if the tables are there, and the role looks for them elsewhere."""
    path = server.search_path(session, "deliveries")
    if path.is_found or not path.schemas:
        return
    yield problem(
        SEARCH_PATH,
        f"The search_path of the role {state.user} is {path.search_path}, and the tables of the edge are in "
        f"the schema {path.schemas}",
        "the processes that use this role find no table: nothing is registered or forwarded; nothing is lost",
        f"`ALTER ROLE {state.user} RESET search_path`, or the same for `ALTER DATABASE {state.database}`; "
        "then restart the processes",
        holds=Holds.ALL,
    )


def _privileges(session: Session, state: Server) -> Iterator[Finding]:
    missing = server.missing_privileges(session, sorted(_TABLES))
    if missing:
        yield problem(
            "postgres.privileges",
            f"The role {state.user} may not read {', '.join(missing[:5])}",
            "the processes that use this role cannot work",
            f"as the owner of the schema: `mini-pacs db grant {state.user}`",
            holds=Holds.ALL,
        )


def _disk(session: Session, state: Server, *, tries_to_write: bool) -> Iterator[Finding]:
    folder = server.data_directory(session)
    free = None
    if folder is not None and os.access(folder, os.X_OK):  # PostgreSQL may run on another host
        free = shutil.disk_usage(folder).free
    error = ""
    if tries_to_write and not (state.is_standby or state.is_read_only):
        error = server.disk_error(session)
    remedy = f"free space on the disk of PostgreSQL{f' ({folder})' if folder else ''}: `df -h`"
    if error:
        what = f"The disk of PostgreSQL is full: {error.rpartition(': ')[2]}"
        yield problem("postgres.disk_full", what, AWAY, remedy, holds=Holds.ALL)
    elif free is not None and free < DISK_BYTES:
        what = f"The disk of PostgreSQL has only {free >> 20} MiB left"
        means = "when it is full, nothing is registered or forwarded"
        yield problem("postgres.disk_full", what, means, remedy, holds=Holds.LATER)
