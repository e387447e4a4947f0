"""Make every process take another config.yaml, or none.

    1  propose   the version is written; each process checks its own file, and answers
    2  decide    if all can take it, one row says so, and each process takes it; else it is refused

Instances that arrive between the look at the debts and the decision may be owed to a target that the version
removes. The decision looks again, in its own transaction.

The reload does not wait for a process that died or ended. It is refused while a process is frozen: this
process cannot answer, and would use the old version when it wakes.

If this process dies
    before the decision   every process keeps its configuration. The version stays proposed for half a
                          minute; then it counts as refused
    after it              the processes take it by themselves
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import configurations, destinations, processes, spools
from gateway.database.tables.processes import ProcessKind, ProcessRow
from gateway.errors import DatabaseError, ReloadRefusedError
from gateway.processes.document import document_of
from gateway.processes.heartbeat import BEAT_SECONDS
from gateway.processes.removed import in_words, owed_to_removed

ANSWER_SECONDS = 10.0
"""For the answers of all processes. Each looks every two seconds, and reads a file."""
GONE_SECONDS = 4.0
"""A process without a connection that does not answer within this time is gone."""
TAKE_SECONDS = 10.0
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Refusal:
    """A process that cannot take a version, and why."""

    process: ProcessRow
    reason: str


def asked(session: Session) -> list[ProcessRow]:
    """Return the processes that must take a version: those with a configuration and this spool.

    The receivers answer for their parent. A process with another spool is none of this edge.
    """
    name = spools.marks(session).name
    return [
        row
        for row in processes.processes(session)
        if row.configuration_digest is not None
        and row.kind is not ProcessKind.SERVE
        and (row.spool_name is None or name is None or row.spool_name == str(name))
        and (row.connected or row.silent_seconds < 2 * BEAT_SECONDS)
    ]


def load(
    database: Database,
    configuration: Configuration,
    *,
    difference: Sequence[str],
    by: str,
    may_owe: bool = False,
) -> int:
    """Make every process take a configuration; return the number of its version.

    `may_owe`: targets that it removes may be owed instances; the caller settles them.

    Raises:
        ReloadRefusedError: a process cannot take it, or a removed target is owed instances; nothing has
            changed.
    """
    version = propose(database, configuration, difference=difference, by=by)
    try:
        _require_consent(database, version)
        with database.transaction() as session:
            if not may_owe:
                require_no_debts(session, configuration)
            decide(session, version, configuration)
    except BaseException as error:  # Ctrl-C, too: no process waits for a decision
        # Safe: a version that stays proposed counts as refused after half a minute.
        with suppress(DatabaseError), database.transaction() as session:
            configurations.refuse(session, version, reason=str(error) or "the command was interrupted")
        raise
    return version


def require_no_debts(session: Session, configuration: Configuration) -> None:
    """Return if no target that the configuration removes is owed instances.

    Raises:
        ReloadRefusedError: one is.
    """
    owed = owed_to_removed(session, configuration)
    if owed:
        raise ReloadRefusedError(
            f"nothing was changed. {in_words(owed)}, and {configuration.source} does not have it any more. "
            "Say where they go: `mini-pacs config reload --move-to TARGET`, or `--cancel`"
        )


def _require_consent(database: Database, version: int) -> None:
    refused = refusals(database, version)
    if refused:
        reasons = "".join(f"\n  {one.process.name}: {one.reason}" for one in refused)
        raise ReloadRefusedError(
            f"nothing was changed. Not every process can take version {version}, so none takes it:{reasons}"
        )


def propose(database: Database, configuration: Configuration, *, difference: Sequence[str], by: str) -> int:
    """Propose a configuration to every process; return the number of the version.

    Raises:
        ReloadRefusedError: another reload runs.
    """
    with database.transaction() as session:
        version = configurations.propose(
            session,
            digest=configuration.digest,
            document=document_of(configuration),
            difference=difference,
            by=by,
        )
        if version is None:
            other = configurations.proposed(session)
            who = "" if other is None else f" (version {other.version}, by {other.proposed_by})"
            raise ReloadRefusedError(f"another reload is running{who}: try again in a minute")
    return version


def refusals(database: Database, version: int) -> list[Refusal]:
    """Wait for the answers of all processes; return those that cannot take the version."""
    began = monotonic()
    while True:
        with database.statement() as session:
            rows = asked(session)
        waited = monotonic() - began
        refused = [Refusal(row, row.answer) for row in rows if row.answered == version and row.answer]
        silent = [row for row in rows if row.answered != version and (row.connected or waited < GONE_SECONDS)]
        if not silent:
            return refused
        if waited > ANSWER_SECONDS:
            return [*refused, *(Refusal(row, _why_silent(row)) for row in silent)]
        time.sleep(LOOK_SECONDS)


def _why_silent(row: ProcessRow) -> str:
    if row.silent_seconds < BEAT_SECONDS:
        return f"it did not answer within {ANSWER_SECONDS:g} s"
    frozen = "it did not answer, and may be" if row.beats else "it is"
    return (
        f"{frozen} frozen: its last heartbeat was {row.silent_seconds:.0f} s ago. Wake it "
        f"(kill -CONT {row.pid}), or end it (kill -9 {row.pid}); then type the command again"
    )


def decide(session: Session, version: int, configuration: Configuration) -> None:
    """Decide in the caller's transaction that every process takes the version.

    Destinations that the version does not have get nothing from now on. New ones are written by the processes
    once all of them know them.

    Raises:
        ReloadRefusedError: the version is not proposed any more.
    """
    if not configurations.take(session, version):
        raise ReloadRefusedError(f"version {version} is not proposed any more: type the command again")
    destinations.forget_removed(session, configuration)


def behind(database: Database, digest: str) -> list[ProcessRow]:
    """Wait until every process has taken the version with that digest; return those that have not."""
    limit = monotonic() + TAKE_SECONDS
    while True:
        with database.statement() as session:
            late = [row for row in asked(session) if row.connected and row.configuration_digest != digest]
        if not late or monotonic() > limit:
            return late
        time.sleep(LOOK_SECONDS)
