"""What waits and runs in each queue, how much flows through it, and which processes consume it.

`mini-pacs queue` and `mini-pacs status` show it. Actor processes count what they finish (`count_rates`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.database.pool import Database
from gateway.database.queries import load
from gateway.database.session import Session

_Q = load("queues")


@dataclass(frozen=True, slots=True)
class ActorRate:
    """What an actor did in one process in one minute (minutes since 1970)."""

    minute: int
    queue_name: str
    actor_name: str
    arrived: int
    done: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages of a queue are in a state; `later` of them are not yet due."""

    queue_name: str
    state: str
    count: int
    later: int
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True)
class Flow:
    """What came due and what was finished in a queue over some minutes; `seconds` spent in its actors."""

    queue_name: str
    arrived: int
    done: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ConsumerRow:
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


def count_rates(session: Session, rates: Sequence[ActorRate]) -> None:
    """Add what a process finished to the table that `flows` reads."""
    session.run(
        _Q["count_rates"],
        minutes=[r.minute for r in rates],
        queue_names=[r.queue_name for r in rates],
        actor_names=[r.actor_name for r in rates],
        arrived=[r.arrived for r in rates],
        done=[r.done for r in rates],
        failed=[r.failed for r in rates],
        seconds=[r.seconds for r in rates],
    )


def forget_rates(session: Session) -> int:
    """Delete rates older than a day; return how many rows."""
    return session.run(_Q["forget_rates"])


def depths(session: Session) -> list[Depth]:
    """Count the messages that wait, run or are dead, by queue."""
    return session.rows(Depth, _Q["depths"])


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
