"""Read how much arrives for each target and leaves; gateway/domain/flow.py says what follows from it."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from gateway.database.queries import Query, load
from gateway.database.session import Session
from gateway.domain.flow import DestinationFlow, TargetFlow
from gateway.domain.routing import Route

WINDOW = timedelta(minutes=1)
"""A backlog that one study left behind must soon count as one that shrinks."""
QUIET_SECONDS = 10.0
"""If nothing arrived for this long, the study or the outage that made the backlog is over."""
FEW, RECENT = 1_000, 20_000
"""How many deliveries and attempts are read: FEW, or RECENT if FEW do not cover the window. At a high rate
RECENT do not cover it either."""
COUNT_LIMIT = 100_000

_Q = load("flow")


@dataclass(frozen=True, slots=True)
class _Arrived:
    route: Route
    target: str
    count: int
    covered_seconds: float
    quiet_seconds: float

    @property
    def per_minute(self) -> float:
        return 60 * self.count / max(self.covered_seconds, 1.0)


class _Completed(NamedTuple):
    route: Route
    target: str
    destination: str
    attempts: int
    delivered: int
    seconds: float
    covered_seconds: float


class _Waiting(NamedTuple):
    route: Route
    target: str
    waiting: int
    in_flight: int
    oldest_send_at: datetime | None
    threads: int
    is_open: bool


_Row = TypeVar("_Row", _Arrived, _Completed)


def flows(session: Session, *, lease: timedelta, window: timedelta = WINDOW) -> list[TargetFlow]:
    """Return the flow of each configured target; `lease` is that of the claims."""
    arrived = {(row.route, row.target): row for row in _recent(session, _Arrived, _Q["arrived"], window)}
    completed: defaultdict[tuple[Route, str], list[_Completed]] = defaultdict(list)
    for row in _recent(session, _Completed, _Q["completed"], window):
        completed[row.route, row.target].append(row)
    return [
        _flow(
            waiting,
            arrived.get((waiting.route, waiting.target)),
            completed[waiting.route, waiting.target],
        )
        for waiting in session.rows(_Waiting, _Q["waiting"], limit=COUNT_LIMIT, lease=lease)
    ]


def _recent(session: Session, into: type[_Row], query: Query, window: timedelta) -> list[_Row]:
    found = session.rows(into, query, window=window, limit=FEW)
    if all(row.covered_seconds >= window.total_seconds() for row in found):
        return found
    return session.rows(into, query, window=window, limit=RECENT)


def _flow(waiting: _Waiting, arrived: _Arrived | None, completed: list[_Completed]) -> TargetFlow:
    attempts = sum(row.attempts for row in completed)
    sent = tuple(
        DestinationFlow(
            row.destination,
            _per_minute(row.attempts, row),
            _per_minute(row.delivered, row),
            row.seconds / row.attempts,
        )
        for row in sorted(completed, key=lambda row: row.destination)
    )
    return TargetFlow(
        route=waiting.route,
        target=waiting.target,
        arrived_per_minute=0.0 if arrived is None else arrived.per_minute,
        is_arriving=arrived is not None and arrived.quiet_seconds < QUIET_SECONDS,
        delivered_per_minute=sum(one.delivered_per_minute for one in sent),
        failed_per_minute=sum(one.attempts_per_minute - one.delivered_per_minute for one in sent),
        mean_seconds=sum(row.seconds for row in completed) / attempts if attempts else None,
        waiting=waiting.waiting,
        in_flight=waiting.in_flight,
        oldest_send_at=waiting.oldest_send_at if waiting.in_flight else None,
        threads=waiting.threads,
        is_open=waiting.is_open,
        destinations=sent,
    )


def _per_minute(count: int, row: _Completed) -> float:
    return 60 * count / max(row.covered_seconds, 1.0)
