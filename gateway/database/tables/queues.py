"""What waits and runs in each queue, how much flows through it, and which processes consume it.

`mini-pacs queue` and `mini-pacs status` show it. Actor processes count what they finish (tables/counters.py).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.database.pool import Database
from gateway.database.queries import load
from gateway.database.session import Session

QUEUES = 200
"""How many queues are told apart where counts are bounded."""

_Q = load("queues")


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages of a queue are in a state; `later` of them are not yet due."""

    queue_name: str
    state: str
    count: int
    later: int
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True)
class BoundedDepth:
    """As `Depth`, counted up to a limit; `recent` of those that wait came due within a window."""

    queue_name: str
    state: str
    count: int
    later: int
    recent: int
    oldest_seconds: float | None


class Flow(NamedTuple):
    """What came due and what was finished in a queue over some minutes; `seconds` spent in its actors."""

    queue_name: str
    arrived: int
    done: int
    failed: int
    seconds: float


class ConsumerRow(NamedTuple):
    """One consumer process and what it holds."""

    id: int
    host: str
    pid: int
    queue_names: tuple[str, ...]
    threads: int
    started_at: datetime
    alive: bool
    holds: int
    oldest_seconds: float | None


def depths(session: Session) -> list[Depth]:
    """Count the messages that wait, run or are dead, by queue."""
    return session.rows(Depth, _Q["depths"])


def bounded_depths(session: Session, window: timedelta, *, limit: int) -> list[BoundedDepth]:
    """Count the messages that wait, run or are dead, by queue; each count stops at `limit`."""
    return session.rows(BoundedDepth, _Q["bounded_depths"], window=window, limit=limit, names=QUEUES)


def finished(session: Session, window: timedelta) -> list[Flow]:
    """Return what was finished in each queue over `window`; see `flows` for what came due and still waits."""
    return session.rows(Flow, _Q["finished"], window=window)


def flows(session: Session, window: timedelta) -> list[Flow]:
    """Return what came due and was finished in each queue over `window`, by whole minutes."""
    return session.rows(Flow, _Q["rates"], window=window)


def consumers(session: Session) -> list[ConsumerRow]:
    """Return every consumer that is alive or not yet reaped, and what it holds."""
    return session.rows(ConsumerRow, _Q["consumers"])


def vacuum(database: Database) -> None:
    """Vacuum the queue; skip it where it is being vacuumed already."""
    with database.statement() as session:
        session.run(_Q["vacuum"])
