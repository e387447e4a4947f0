"""Read what `mini-pacs status` shows: what waits, what is dead, which results are expected, the rates.

Only reads. It stays fast with any backlog, because every statement reads a limited number of rows. Where a
count stops at its limit, or is the planner's estimate, `exact` is False.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables import (
    dead_messages,
    decisions,
    destinations,
    faults,
    findings,
    queues,
    sends,
    shown_units,
    strays,
    sweeps,
    syntaxes,
    unread_files,
)
from gateway.database.tables.dead_messages import Dead
from gateway.database.tables.decisions import SentNowhere, UndecidedCount
from gateway.database.tables.destinations import DestinationState
from gateway.database.tables.faults import Injected
from gateway.database.tables.findings import FailingEndpoint
from gateway.database.tables.queues import ConsumerRow
from gateway.database.tables.sends import Answers, Send
from gateway.database.tables.shown_units import UnitCount
from gateway.database.tables.strays import ConflictsOfSender, UnmatchedOfSender
from gateway.database.tables.sweeps import LastRun
from gateway.database.tables.syntaxes import Declined
from gateway.database.tables.unread_files import Unread
from gateway.domain.delivery import State
from gateway.domain.routing import Route, Target

COUNT_LIMIT = 500_000
"""Counts of unsettled deliveries stop here; each count then takes about 125 ms."""
SMALL_TABLE_BYTES = 32 << 20
"""Up to this size all deliveries are counted, in some 50 ms."""
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
"""How long a repeat that was not forwarded is shown."""
UNDECIDED_WINDOW = timedelta(hours=24)
DECLINED_WINDOW = timedelta(days=7)
"""How long an instance is counted for which a rule could not be decided."""
NOWHERE_WINDOW = timedelta(hours=1)
"""How long an instance is counted that the rules sent to no archive."""

_Q = load("overview")


@dataclass(frozen=True, slots=True)
class Count:
    """How many deliveries to a target are in a state; `state` None stands for all that are settled."""

    route: Route | None
    target: str | None
    state: State | None
    count: int
    exact: bool


class OldestWaiting(NamedTuple):
    """The delivery to a target that waits longest."""

    route: Route
    target: str
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
    target: str
    destination: str | None
    reason: str | None
    count: int
    delivery_id: int


class Results(NamedTuple):
    """Counts of results: `timed_out` counts requests, `given_up` counts instances that no worker answered."""

    owed: int
    timed_out: int
    given_up: int
    late: int
    unmatched: int
    ambiguous: int


@dataclass(frozen=True, slots=True)
class Unforwarded:
    """Instances whose repeat was not forwarded over UNFORWARDED_WINDOW, and the last of those repeats.

    `route` is the one on which it was not forwarded.
    """

    count: int
    study_instance_uid: str
    calling_ae_title: str
    at: datetime
    route: str


class QueueRate(NamedTuple):
    """What the actors of a queue finished over WINDOW; `seconds` is what they spent on it."""

    queue_name: str
    done: int
    failed: int
    seconds: float


class Unserved(NamedTuple):
    """A queue with due messages and no living consumer; at most COUNT_LIMIT are counted."""

    queue_name: str
    due: int
    oldest_seconds: float


class Overview(NamedTuple):
    """What one screen shows; `now` is the time of the database."""

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
    units: tuple[UnitCount, ...] = ()
    sends: tuple[Send, ...] = ()
    answers: tuple[Answers, ...] = ()
    undecided: tuple[UndecidedCount, ...] = ()
    declined: tuple[Declined, ...] = ()
    """Transfer syntaxes that an archive does not accept any more."""
    applications: tuple[str, ...] = ()
    """The configured ones."""
    conflicts: tuple[ConflictsOfSender, ...] = ()
    unmatched: tuple[UnmatchedOfSender, ...] = ()
    nowhere: SentNowhere | None = None
    failing_endpoints: tuple[FailingEndpoint, ...] = ()
    unread: tuple[Unread, ...] = ()
    """Files of undelivered instances that could not be sent."""

    def waiting(self, route: Route, target: str | None = None) -> int:
        """Return how many deliveries are pending or in flight; if not exact, there may be more.

        Without `target`, count all targets of the route.
        """
        return sum(
            c.count
            for c in self.counts
            if c.route is route and target in {None, c.target} and c.state in {State.PENDING, State.IN_FLIGHT}
        )

    @property
    def targets(self) -> tuple[Target, ...]:
        """The configured targets, and those to which something is owed: by route, then by name."""
        archives = {Target(d.route, d.ae_title) for d in self.destinations if d.route.is_archive}
        applications = {Target(Route.WORKERS, name) for name in self.applications}
        counted = {
            Target(c.route, c.target) for c in self.counts if c.route is not None and c.target is not None
        }
        order = list(_SHOWN)
        return tuple(
            sorted(archives | applications | counted, key=lambda one: (order.index(one.route), one.name))
        )

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes that need actor processes: archives only if there are any."""
        configured = {target.route for target in self.targets if self.is_configured(target)}
        used = configured | {Route.PACS, Route.WORKERS}
        return tuple(route for route in _SHOWN if route in used)

    def is_configured(self, target: Target) -> bool:
        """Tell whether config.yaml names the target; the deliveries to another one wait."""
        if target.route is Route.WORKERS:
            return target.name in self.applications
        return any(d.route is target.route and d.ae_title == target.name for d in self.destinations)


class _Receivers(NamedTuple):
    receivers: int
    now: datetime


class _TableSize(NamedTuple):
    bytes: int
    estimated_rows: int


_SHOWN = (Route.PACS, Route.ARCHIVES, Route.WORKERS)
"""The order in which routes are shown."""


def overview(session: Session, *, lease: timedelta | None = None) -> Overview:
    """Read the whole screen. `lease` is that of the claims; without it, `sends` stays empty."""
    receivers = session.only(_Receivers, _Q["receivers"])
    dead_count: int = session.value(_Q["dead_messages"], limit=FLAG_LIMIT)
    dead = dead_messages.dead(session, limit=1) if dead_count else []
    return Overview(
        now=receivers.now,
        counts=_counts(session),
        oldest=tuple(session.rows(OldestWaiting, _Q["oldest_waiting"], limit=LOOK_LIMIT)),
        dead_reasons=tuple(session.rows(DeadReason, _Q["dead_reasons"], limit=DEAD_LIMIT, reasons=REASONS)),
        results=session.only(Results, _Q["results"], limit=FLAG_LIMIT),
        destinations=tuple(destinations.states(session)),
        receivers=receivers.receivers,
        consumers=tuple(queues.consumers(session)),
        received_last_minute=session.value(_Q["received"], limit=RECEIVED_LIMIT),
        rates=tuple(session.rows(QueueRate, _Q["rates"], window=WINDOW)),
        sweeps=tuple(sweeps.last_runs(session)),
        faults=tuple(faults.injected(session)),
        dead_messages=dead_count,
        dead_message=dead[0] if dead else None,
        unforwarded=session.row(Unforwarded, _Q["unforwarded"], window=UNFORWARDED_WINDOW, limit=FLAG_LIMIT),
        unserved=unserved(session),
        units=tuple(shown_units.counts(session)),
        sends=() if lease is None else sends.under_way(session, lease=lease),
        answers=sends.answers(session),
        undecided=tuple(decisions.undecided(session, window=UNDECIDED_WINDOW, limit=FLAG_LIMIT)),
        declined=tuple(syntaxes.declined(session, window=DECLINED_WINDOW)),
        applications=tuple(session.values(_Q["applications"])),
        conflicts=tuple(strays.conflicts_of_senders(session)),
        unmatched=tuple(strays.unmatched_of_senders(session)),
        nowhere=decisions.sent_nowhere(session, window=NOWHERE_WINDOW, limit=FLAG_LIMIT),
        failing_endpoints=tuple(findings.failing_endpoints(session)),
        unread=tuple(unread_files.unread(session)),
    )


def unserved(session: Session) -> tuple[Unserved, ...]:
    """Return the queues with due messages and no consumer, if that lasts longer than a restart."""
    return tuple(
        session.rows(
            Unserved, _Q["unserved_queues"], names=NAME_LIMIT, limit=COUNT_LIMIT, grace=UNSERVED_GRACE
        )
    )


def _counts(session: Session) -> tuple[Count, ...]:
    size = session.only(_TableSize, _Q["deliveries_size"])
    if size.bytes <= SMALL_TABLE_BYTES:
        return tuple(session.rows(Count, _Q["count_all"]))
    unsettled = session.rows(Count, _Q["count_unsettled"], limit=COUNT_LIMIT)
    # No index has the settled deliveries: subtract the unsettled ones from the planner's estimate.
    rest = size.estimated_rows - sum(c.count for c in unsettled)
    return (*unsettled, Count(None, None, None, max(rest, 0), exact=False))
