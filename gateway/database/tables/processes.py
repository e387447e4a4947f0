"""The processes of the edge: each writes its row every few seconds (`gateway.processes.heartbeat`).

it beats                 `silent_seconds` is below SILENT_SECONDS
it is frozen             it is silent, and `connected`: PostgreSQL still has its connection
it is gone, or cut off   it is silent, and not connected; after FORGET_AFTER another process deletes the row
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import orjson

from gateway.database.queries import load
from gateway.database.session import Session

_Q = load("processes")

SILENT_SECONDS = 15.0
"""A process beats every 5 s, so it has missed two beats. Must exceed a statement on a busy PostgreSQL."""
FORGET_AFTER = timedelta(seconds=60)
"""Must exceed the time in which a process connects again after PostgreSQL was restarted."""


class ProcessKind(StrEnum):
    """What a process is for."""

    SERVE = "serve"  # the parent of the receivers; it has no connection, and they write its row
    RECEIVER = "receiver"
    ACTORS = "actors"
    SCHEDULER = "scheduler"


@dataclass(frozen=True, slots=True)
class Beat:
    """What a process writes about itself; `age` is the time since its start.

    `beat_age` is the time since it was seen alive; 0 if it writes the row itself.
    """

    id: str
    kind: ProcessKind
    serves: str
    host: str
    pid: int
    os_user: str
    version: str
    age: timedelta
    beat_age: timedelta = timedelta()
    consumer_id: int | None = None
    configuration_digest: str | None = None
    restart_for: tuple[str, ...] = ()
    spool_name: str | None = None
    spool_epoch: int | None = None
    spool_problem: str | None = None
    clock_offset_ms: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


class ProcessRow(NamedTuple):
    """One process, as it wrote its row last; the comments of the columns are in the schema.

    `consumer_id` is that of an actor process in dramatiq.consumers. `clock_offset_ms` is its clock minus
    that of PostgreSQL. `spool_problem` says why its user cannot write the spool.
    """

    id: str
    kind: ProcessKind
    serves: str
    host: str
    pid: int
    os_user: str
    version: str
    started_at: datetime
    beat_at: datetime
    silent_seconds: float
    connected: bool
    consumer_id: int | None
    configuration_digest: str | None
    restart_for: tuple[str, ...]
    answered: int | None
    answer: str | None
    spool_name: str | None
    spool_epoch: int | None
    spool_problem: str | None
    clock_offset_ms: float | None

    @property
    def name(self) -> str:
        """The process in words for people."""
        return f"{self.kind} {self.serves} (process {self.pid} on {self.host})"

    @property
    def beats(self) -> bool:
        """Tell whether it runs: its last heartbeat is not old."""
        return self.silent_seconds <= SILENT_SECONDS

    @property
    def is_frozen(self) -> bool:
        """Tell whether it is stopped or hangs: it is silent, and its connection is open."""
        return self.connected and not self.beats


def now(session: Session) -> datetime:
    """Return the time of PostgreSQL."""
    time: datetime = session.value(_Q["now"])
    return time


def beat(session: Session, process: Beat) -> datetime:
    """Write the row of a process; return the time of PostgreSQL."""
    at: datetime = session.value(
        _Q["beat"],
        id=process.id,
        kind=process.kind.value,
        serves=process.serves,
        host=process.host,
        pid=process.pid,
        os_user=process.os_user,
        version=process.version,
        age=process.age,
        beat_age=process.beat_age,
        consumer_id=process.consumer_id,
        configuration_digest=process.configuration_digest,
        restart_for=list(process.restart_for),
        spool_name=process.spool_name,
        spool_epoch=process.spool_epoch,
        spool_problem=process.spool_problem,
        clock_offset_ms=process.clock_offset_ms,
        figures=orjson.dumps(dict(process.figures)).decode(),
    )
    return at


def answer(session: Session, process_id: str, version: int, why_not: str | None) -> None:
    """Say whether a process can take a proposed version of the configuration; `why_not` is None if it can."""
    session.run(_Q["answer"], id=process_id, version=version, answer=why_not)


def are_behind(session: Session, digest: str) -> bool:
    """Tell whether a living process uses another configuration than the one with that digest."""
    return bool(session.value(_Q["are_behind"], digest=digest, silence=timedelta(seconds=SILENT_SECONDS)))


def remove(session: Session, ids: Iterable[str]) -> None:
    """Delete the rows of processes that end."""
    session.run(_Q["remove"], ids=list(ids))


def forget_dead(session: Session) -> int:
    """Delete the rows of processes that are gone for FORGET_AFTER; return how many."""
    return session.run(_Q["forget_dead"], silence=FORGET_AFTER)


def processes(session: Session) -> list[ProcessRow]:
    """Return every process whose row is not deleted yet: also those that are frozen or died just now."""
    return session.rows(ProcessRow, _Q["all"])
