"""Ask PostgreSQL what is wrong with it; if it cannot be asked, find out why.

A connection of its own, with two seconds for each step, asks only views of PostgreSQL. So it answers while
the tables of the edge are locked, and it does not wait for a server that hangs. server_findings.py judges
what PostgreSQL says.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

from gateway.database import dsn as dsn_text
from gateway.database.tables import server
from gateway.database.tables.server import Server
from gateway.diagnosis.bounded import HangsError, within
from gateway.diagnosis.finding import Finding, Holds, problem
from gateway.diagnosis.local_postgres import of_connections, of_silence
from gateway.diagnosis.server_findings import AWAY, sources_of
from gateway.errors import DatabaseError, DatabaseLoginError, DatabaseRefusedError, DatabaseUnavailableError

SERVER_SECONDS = 5.0
"""The limit of all questions to PostgreSQL. The lookup of a host name may block in the C library for
longer."""
_RECOVERY = "the database system is starting up"


@dataclass(slots=True)
class ServerSeen:
    """What was found out: `server` is None if PostgreSQL could not be asked."""

    where: str
    server: Server | None = None
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0
    clock_offset: float | None = None
    error: DatabaseError | None = None


def look(dsn: str, *, tries_to_write: bool = True, seconds: float = SERVER_SECONDS) -> ServerSeen:
    """Ask PostgreSQL; return what it said, or why it could not be asked within `seconds`."""
    began = monotonic()
    seen = ServerSeen(dsn_text.described(dsn))
    try:
        within(min(seconds, SERVER_SECONDS), lambda: _ask(dsn, seen, tries_to_write=tries_to_write))
    except HangsError:
        seen.error = DatabaseUnavailableError(f"PostgreSQL at {dsn_text.where(dsn)} does not answer in time")
        seen.server = None
        seen.findings.append(_away(seen.where, "it does not answer in time: host name, network or disk", dsn))
    except DatabaseLoginError as error:
        seen.error = error
        seen.findings.append(
            problem(
                "postgres.login",
                f"PostgreSQL ({seen.where}) refuses the login: {_reason(error)}",
                AWAY,
                "correct password, role, database or pg_hba.conf; DATABASE_URL, or POSTGRES_USER, _PASSWORD "
                "and _DB, say what the edge uses",
                holds=Holds.ALL,
            )
        )
    except DatabaseError as error:
        seen.error = error
        seen.findings.append(_of_error(error, seen.where, dsn))
    seen.seconds = monotonic() - began
    return seen


def _ask(dsn: str, seen: ServerSeen, *, tries_to_write: bool) -> None:
    with server.observed(dsn) as session:
        before = datetime.now(UTC)
        state = seen.server = server.server(session)
        middle = before + (datetime.now(UTC) - before) / 2
        seen.clock_offset = (state.clock - middle).total_seconds()
        for source in sources_of(
            session, state, seen.where, clock_offset=seen.clock_offset, tries_to_write=tries_to_write
        ):
            with suppress(DatabaseRefusedError):  # this role may not see that
                seen.findings.extend(source)


def _reason(error: Exception) -> str:
    return str(error).partition("failed: ")[2] or str(error).rpartition(": ")[2] or str(error)


def _away(where: str, reason: str, dsn: str) -> Finding:
    frozen = of_silence(dsn)
    if frozen is not None:
        return problem(
            "postgres.frozen",
            f"PostgreSQL ({where}) is stopped: its process {frozen} is in state T (SIGSTOP)",
            AWAY,
            f"`kill -CONT {frozen}`",
            holds=Holds.ALL,
        )
    return problem(
        "postgres.away",
        f"PostgreSQL ({where}) cannot be used: {reason}",
        AWAY,
        "start PostgreSQL; if it runs, DATABASE_URL, or POSTGRES_HOST and POSTGRES_PORT, are wrong",
        holds=Holds.ALL,
    )


def _of_error(error: DatabaseError, where: str, dsn: str) -> Finding:
    text = str(error)
    if "too many" in text or "remaining connection slots" in text:
        return problem(
            "postgres.connections",
            f"PostgreSQL ({where}) has no connection left: {_reason(error)}{of_connections()}",
            "processes of the edge that connect now cannot work; connected ones continue",
            f"end the program that holds them, or {more_connections(text)}",
            holds=Holds.ALL,
        )
    if _RECOVERY in text:
        return problem("postgres.starting", f"PostgreSQL ({where}) is starting up", AWAY,
                       "wait; its log says how far recovery is", holds=Holds.ALL)  # fmt: skip
    if "did not answer" in text:
        return _away(
            where, "TCP connects, and it does not answer within 2 s: it is frozen, or its disk hangs", dsn
        )
    return _away(where, _reason(error), dsn)


def more_connections(text: str) -> str:
    """Return the remedy: raise the limit that PostgreSQL names in its refusal."""
    for kind in ("role", "database"):
        name = re.search(rf'for {kind} "([^"]+)"', text)
        if name:
            return f"raise its limit: `ALTER {kind.upper()} {name[1]} CONNECTION LIMIT -1` (-1: no limit)"
    return "raise max_connections in postgresql.conf"
