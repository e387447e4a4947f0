"""What `mini-pacs status` shows of the database: what waits, what is dead, which results are owed, the rates.

Only reads, and stays fast under any backlog: each figure comes from a bounded look. Where a count stops at
its bound, or is the planner's estimate, `exact` is False.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables import destinations, faults, messages, sweeps
from gateway.database.tables.destinations import DestinationState
from gateway.database.tables.faults import Injected
from gateway.database.tables.messages import ConsumerRow, Dead
from gateway.database.tables.sweeps import LastRun
from gateway.domain.delivery import State
from gateway.domain.routing import Route

COUNT_LIMIT = 500_000
"""Counts of the unsettled stop here: an eighth of a second for each."""
SMALL_TABLE_BYTES = 32 << 20
"""A table of deliveries up to this is counted whole, in some 50 ms."""
LOOK_LIMIT = 500
FLAG_LIMIT = 10_000
RECEIVED_LIMIT = 100_000
DEAD_LIMIT = 10_000
REASONS = 5
NAME_LIMIT = 100
UNSERVED_GRACE = timedelta(seconds=15)
"""Must exceed the time in which an actor process that died is started again."""
WINDOW = timedelta(minutes=5)
UNFORWARDED_WINDOW = timedelta(hours=1)
"""How long a repeat that was not forwarded is shown; whoever waits for it looks within this."""

_Q = load("overview")


@dataclass(frozen=True, slots=True)
class Count:
    """How many deliveries of a route are in a state; `state` None stands for all that are settled."""

    route: Route | None
    state: State | None
    count: int
    exact: bool


@dataclass(frozen=True, slots=True)
class OldestWaiting:
    """The delivery of a route that is owed longest."""

    route: Route
    delivery_id: int
    state: State
    owed_since: datetime
    next_attempt_at: datetime | None
    attempts: int
    destination: str | None
    reason: str | None
    sop_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, slots=True)
class DeadReason:
    """Why deliveries are dead; `delivery_id` is one of them."""

    route: Route
    destination: str | None
    reason: str | None
    count: int
    delivery_id: int


@dataclass(frozen=True, slots=True)
class Results:
    """Over what is kept: `timed_out` counts requests, `given_up` instances that no worker answered."""

    owed: int
    timed_out: int
    given_up: int
    late: int
    unmatched: int
    ambiguous: int


@dataclass(frozen=True, slots=True)
class Unforwarded:
    """Instances whose repeat was not forwarded over UNFORWARDED_WINDOW, and the last of those repeats."""

    count: int
    study_instance_uid: str
    calling_ae_title: str
    at: datetime


@dataclass(frozen=True, slots=True)
class QueueRate:
    """What the actors of a queue finished over WINDOW; `seconds` is what they spent on it."""

    queue_name: str
    done: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Unserved:
    """A queue whose messages are due and that no living process consumes; at most COUNT_LIMIT are counted."""

    queue_name: str
    due: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Overview:
    """One screen; `now` is the database's."""

    now: datetime
    counts: tuple[Count, ...]
    oldest: tuple[OldestWaiting, ...]
    dead_reasons: tuple[DeadReason, ...]
    results: Results
    destinations: tuple[DestinationState, ...]
    receivers: int
    consumers: tuple[ConsumerRow, ...]
    received_last_minute: int
    rates: tuple[QueueRate, ...]
    sweeps: tuple[LastRun, ...]
    faults: tuple[Injected, ...]
    dead_messages: int
    dead_message: Dead | None
    unforwarded: Unforwarded | None
    unserved: tuple[Unserved, ...]

    def waiting(self, route: Route) -> int:
        """How many deliveries of that route are still owed; at least, where the count is not exact."""
        return sum(
            c.count for c in self.counts if c.route is route and c.state in {State.PENDING, State.IN_FLIGHT}
        )


def overview(session: Session) -> Overview:
    """The state of the gateway as the database knows it."""
    receivers = session.one(_Q["receivers"])
    received = session.one(_Q["received"], limit=RECEIVED_LIMIT)
    dead_messages = session.one(_Q["dead_messages"], limit=FLAG_LIMIT)
    results = session.one(_Q["results"], limit=FLAG_LIMIT)
    assert receivers is not None
    assert received is not None
    assert dead_messages is not None
    assert results is not None
    dead = messages.dead(session, limit=1) if dead_messages[0] else []
    return Overview(
        now=receivers[1],
        counts=_counts(session),
        oldest=tuple(
            OldestWaiting(Route(row[0]), row[1], State(row[2]), *row[3:])
            for row in session.all(_Q["oldest_waiting"], limit=LOOK_LIMIT)
        ),
        dead_reasons=tuple(
            DeadReason(Route(row[0]), *row[1:])
            for row in session.all(_Q["dead_reasons"], limit=DEAD_LIMIT, reasons=REASONS)
        ),
        results=Results(*results),
        destinations=tuple(destinations.states(session)),
        receivers=receivers[0],
        consumers=tuple(messages.consumers(session)),
        received_last_minute=received[0],
        rates=tuple(QueueRate(*row) for row in session.all(_Q["rates"], window=WINDOW)),
        sweeps=tuple(sweeps.last_runs(session)),
        faults=tuple(faults.injected(session)),
        dead_messages=dead_messages[0],
        dead_message=dead[0] if dead else None,
        unforwarded=_unforwarded(session),
        unserved=unserved(session),
    )


def _unforwarded(session: Session) -> Unforwarded | None:
    row = session.one(_Q["unforwarded"], window=UNFORWARDED_WINDOW, limit=FLAG_LIMIT)
    return None if row is None else Unforwarded(*row)


def unserved(session: Session) -> tuple[Unserved, ...]:
    """The queues that nobody consumes though messages are due, but for what a restart takes."""
    rows = session.all(_Q["unserved_queues"], names=NAME_LIMIT, limit=COUNT_LIMIT, grace=UNSERVED_GRACE)
    return tuple(Unserved(*row) for row in rows)


def _counts(session: Session) -> tuple[Count, ...]:
    size = session.one(_Q["deliveries_size"])
    assert size is not None
    if size[0] <= SMALL_TABLE_BYTES:
        return tuple(
            Count(Route(route), State(state), count, exact=True)
            for route, state, count in session.all(_Q["count_all"])
        )
    unsettled = tuple(
        count
        for route in Route
        for state in (State.PENDING, State.IN_FLIGHT, State.DEAD)
        if (count := _count(session, route, state)).count
    )
    # The settled stand in no index: what is left of the planner's estimate, where there is one.
    rest = size[1] - sum(c.count for c in unsettled)
    return (*unsettled, Count(None, None, max(rest, 0), exact=False))


def _count(session: Session, route: Route, state: State) -> Count:
    row = session.one(_Q["count_unsettled"], route=route.value, state=state.value, limit=COUNT_LIMIT)
    assert row is not None
    return Count(route, state, row[0], exact=row[0] < COUNT_LIMIT)
