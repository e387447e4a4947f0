"""Read what `mini-pacs metrics` shows, and move what transactions counted into the counters.

Receptions are counted by the statement that registers them, attempts and results by triggers: in their own
transactions, so that the counters equal the rows. These transactions only add rows, and `fold` adds them up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.processes import SILENT_SECONDS, ProcessKind
from gateway.domain.delivery import State
from gateway.domain.routing import Target

DURATION_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets of one send, in seconds; its timeout is 30 s by default."""
LONG_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""Upper bounds of the buckets of what may take hours: from the reception to the destination; a result."""
MAX_TITLES = 200
"""After so many calling AE titles further ones are counted as `other`."""
COUNT_LIMIT = 500_000
LOOK_LIMIT = 500

_Q = load("metrics")


class LastSuccess(NamedTuple):
    """When a destination took an instance last, in seconds since 1970."""

    destination: str
    succeeded_at: float


@dataclass(frozen=True, slots=True)
class Unsettled:
    """How many deliveries to a target are in a state, at most COUNT_LIMIT."""

    target: str
    state: State
    count: int


class OldestPending(NamedTuple):
    """How long the oldest pending delivery to a target has waited; 0 if none is pending."""

    target: str
    seconds: float


class QueueFigures(NamedTuple):
    """Messages and consumers of a queue; `latency_seconds` is how long the oldest due message has waited."""

    queue_name: str
    queued: int
    consumed: int
    dead: int
    latency_seconds: float
    consumers: int


class LivingProcess(NamedTuple):
    """A process of the edge, and the figures of its last heartbeat."""

    kind: ProcessKind
    serves: str
    host: str
    pid: int
    started_at: float
    figures: dict[str, float]


def set_deadline(session: Session, deadline: timedelta) -> None:
    """Make PostgreSQL end each further statement of this transaction after `deadline`."""
    session.value(_Q["deadline"], milliseconds=round(deadline.total_seconds() * 1000))


def fold(session: Session) -> bool:
    """Move what transactions counted into the counters; return False if another process does that now."""
    return bool(
        session.value(
            _Q["fold"],
            duration_bounds=list(DURATION_BOUNDS),
            long_bounds=list(LONG_BOUNDS),
            titles=MAX_TITLES,
        )
    )


def last_successes(session: Session) -> list[LastSuccess]:
    """Return when each destination took an instance last."""
    return session.rows(LastSuccess, _Q["last_successes"])


def unsettled(session: Session, targets: Sequence[Target]) -> list[Unsettled]:
    """Return the deliveries to each target that are pending, in flight or dead."""
    return session.rows(Unsettled, _Q["unsettled"], limit=COUNT_LIMIT, **_columns(targets))


def oldest_pending(session: Session, targets: Sequence[Target]) -> list[OldestPending]:
    """Return how long the oldest delivery to each target waits."""
    return session.rows(OldestPending, _Q["oldest_pending"], limit=LOOK_LIMIT, **_columns(targets))


def _columns(targets: Sequence[Target]) -> dict[str, object]:
    return {"routes": [one.route.value for one in targets], "targets": [one.name for one in targets]}


def queue_figures(session: Session, queues: list[str]) -> list[QueueFigures]:
    """Return the figures of these queues."""
    return session.rows(QueueFigures, _Q["queues"], queues=queues, limit=COUNT_LIMIT)


def processes(session: Session) -> list[LivingProcess]:
    """Return the processes of the edge that beat."""
    return session.rows(LivingProcess, _Q["processes"], silence=timedelta(seconds=SILENT_SECONDS))
