"""Sessions of PostgreSQL that hold up the edge: locks, idle transactions, a backup that stays open."""

from collections.abc import Iterator
from datetime import timedelta

from gateway.database.session import Session
from gateway.database.tables import server
from gateway.database.tables.server import Blocker, Server
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.times import span

LOCK_LONG = timedelta(seconds=3)
IDLE_LONG = timedelta(seconds=10)
OPEN_LONG = timedelta(minutes=10)
"""The transactions of the edge take seconds; only a dump or a forgotten session takes longer."""
BLOCKED_SECONDS = 2.0


def terminate(pid: int, user: str, ours: str) -> str:
    """Return the command that ends a session of `user`. Only that role or a superuser may end it."""
    if user in {"", ours}:
        return f"""end it: `psql "$DATABASE_URL" -c 'SELECT pg_terminate_backend({pid})'`"""
    return f"end it as {user} or as a superuser of PostgreSQL: `SELECT pg_terminate_backend({pid})`"


def _doing(one: Blocker) -> str:
    """Return who has a session, and what it does, if this role may see it."""
    who = f"{one.application or 'no name'}, {one.user}, {one.address}"
    if not one.state:
        return f"{who}; this role may not see what it does"
    statement = one.statement or "unknown statement"
    return f"{who}; {one.state}, {statement}, transaction open for {span(one.seconds)}"


def locks(session: Session, state: Server) -> Iterator[Finding]:
    """Yield sessions that block others, sessions that locked a table of the edge, prepared transactions."""
    told = set()
    for one in server.blockers(session):
        if one.longest < BLOCKED_SECONDS:
            continue
        told.add(one.pid)
        yield problem(
            f"postgres.blocked:{one.pid}",
            f"{one.waiting} sessions of PostgreSQL ({one.applications}) wait for a lock, the longest for "
            f"{span(one.longest)}: process {one.pid} holds it ({_doing(one)})",
            "these sessions wait, so instances are not registered or forwarded; nothing is lost",
            terminate(one.pid, one.user, state.user),
            holds=Holds.ALL,
        )
    for locker in server.lockers(session, older=LOCK_LONG):
        if locker.pid in told or locker.application == "mini-pacs migrate":
            continue
        yield problem(
            f"postgres.blocked:{locker.pid}",
            f"Process {locker.pid} of PostgreSQL ({locker.application or 'no name'}, {locker.user}, "
            f"{locker.address}; {locker.state}, {locker.statement}) has locked {locker.tables} for "
            f"{span(locker.seconds)}",
            "statements that need this table wait: nothing is registered or forwarded; nothing is lost",
            terminate(locker.pid, locker.user, state.user),
            holds=Holds.ALL,
        )
    for transaction in server.prepared(session, older=IDLE_LONG):
        yield problem(
            f"postgres.prepared:{transaction.gid}",
            f"The prepared transaction {transaction.gid} of {transaction.user} is open for "
            f"{span(transaction.seconds)}",
            "its locks stay, also after a restart of PostgreSQL",
            f"`ROLLBACK PREPARED '{transaction.gid}'`, or COMMIT PREPARED",
            holds=Holds.SOME,
        )


def transactions(session: Session, state: Server) -> Iterator[Finding]:
    """Yield the transactions that are idle, or open for so long that dead rows stay."""
    for one in server.open_transactions(session, idle=IDLE_LONG, open_for=OPEN_LONG):
        who = f"process {one.pid}, {one.application or 'no name'}, {one.user}, {one.address}"
        end = terminate(one.pid, one.user, state.user)
        means = "dead rows of the queue and the deliveries cannot be removed: claims become slower"
        if one.is_idle:
            yield problem(
                f"postgres.idle:{one.pid}",
                f"A transaction of PostgreSQL is open and idle for {span(one.idle_seconds)} ({who}; last "
                f"statement: {one.statement or 'unknown'})",
                f"it keeps its locks, and {means}",
                f"{end}; idle_in_transaction_session_timeout prevents it",
                holds=Holds.LATER,
            )
        elif one.holds_horizon:
            dump = "a backup" if "dump" in one.application or one.statement == "COPY" else "a transaction"
            yield note(
                f"postgres.horizon:{one.pid}",
                f"{dump.capitalize()} of PostgreSQL is open for {span(one.seconds)} ({who}; "
                f"{one.statement or 'unknown statement'})",
                means,
                f"let it end, or {end}",
                holds=Holds.LATER,
            )
