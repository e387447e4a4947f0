"""Find deliveries by state, target, worker, reason and study, also among a million. Only reads.

Dead and cancelled deliveries have an index of their own; unsettled ones have one by target. All others are
found in windows of ids, the newest first, for a limited time: a page then says how far it has looked.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables import selected_deliveries
from gateway.database.tables.selected_deliveries import Delivery, Selection
from gateway.domain.delivery import State
from gateway.domain.routing import Route, Target

WINDOW = 20_000
"""Ids that one statement looks at."""
LOOK_SECONDS = 0.12
"""How long a page looks for deliveries that no index finds."""
FEW = 10_000
"""So many unsettled deliveries are sorted at once; more are found in windows."""
GROUPED = 50_000
"""So many deliveries of unsettled ones, and of cancelled ones, are grouped by reason."""
GROUPS = 50

GIVEN_UP = (State.DEAD, State.CANCELLED)
UNSETTLED = (State.COLLECTING, State.PENDING, State.IN_FLIGHT, State.DEAD)
NOT_DELIVERED = (*UNSETTLED, State.CANCELLED)

_Q = load("delivery_search")


@dataclass(frozen=True, slots=True)
class WantedDeliveries:
    """What an operator looks for; None means all.

    `worker`: the AE title of the worker that a delivery was last sent to. `reason_key`: see `ReasonGroup`.
    """

    states: tuple[State, ...] | None = None
    target: Target | None = None
    worker: str | None = None
    reason_key: str | None = None
    study: str | None = None

    def parameters(self) -> dict[str, object]:
        """Return it as parameters of a statement."""
        return {
            "states": None if self.states is None else [state.value for state in self.states],
            "route": None if self.target is None else self.target.route.value,
            "target": None if self.target is None else self.target.name,
            "worker": self.worker,
            "reason_key": self.reason_key,
            "study": self.study,
        }

    def only(self, states: tuple[State, ...]) -> "WantedDeliveries":
        """Return the same, in those of `states` that it allows."""
        allowed = states if self.states is None else tuple(one for one in states if one in self.states)
        return replace(self, states=allowed)


class Page(NamedTuple):
    """Deliveries, newest first. `following`: the id after which the next page begins; None at the end.

    `is_partial`: the time was over before the page was full; the next page goes on there.
    """

    rows: tuple[Delivery, ...]
    following: int | None = None
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """Deliveries to one target that are in one state for the same reason. `status`: the last DIMSE status."""

    route: Route
    target: str
    state: State
    reason_key: str
    reason: str | None
    status: int | None
    count: int
    oldest: datetime
    next_attempt_at: datetime | None
    seen: int


class _Ends(NamedTuple):
    first: int
    last: int


class _TargetName(NamedTuple):
    route: Route
    target: str


def page(session: Session, wanted: WantedDeliveries, *, limit: int, after: int | None = None) -> Page:
    """Return the newest `limit` deliveries that are wanted; those before the delivery `after`, if given."""
    ids, looked_to = _ids(session, wanted, limit + 1, after)
    shown = ids[:limit]
    rows = (
        selected_deliveries.find(session, Selection(delivery_ids=tuple(shown)), limit=limit) if shown else []
    )
    following = shown[-1] if len(ids) > limit else looked_to
    return Page(tuple(rows), following, is_partial=looked_to is not None and len(ids) <= limit)


def _ids(
    session: Session, wanted: WantedDeliveries, limit: int, after: int | None
) -> tuple[list[int], int | None]:
    """Return at most `limit` ids, and how far was looked where the time was over before."""
    parameters = {**wanted.parameters(), "after": after, "limit": limit}
    if wanted.study is not None:
        return session.values(_Q["of_study"], **parameters), None
    if wanted.states is not None and set(wanted.states) <= set(GIVEN_UP):
        return session.values(_Q["given_up"], **parameters), None
    if wanted.states is not None and set(wanted.states) <= set(UNSETTLED):
        found = session.values(_Q["few"], **parameters, most=FEW)
        if len(found) <= FEW:
            return sorted((one for one in found if after is None or one < after), reverse=True)[:limit], None
    return _by_windows(session, parameters, limit, after)


def _by_windows(
    session: Session, parameters: dict[str, object], limit: int, after: int | None
) -> tuple[list[int], int | None]:
    ends = session.only(_Ends, _Q["ends"])
    found: list[int] = []
    until = ends.last + 1 if after is None else after
    stop_at = monotonic() + LOOK_SECONDS
    while len(found) < limit and until > ends.first:
        begin = max(until - WINDOW, ends.first)
        bounds = {"until": until, "begin": begin, "limit": limit - len(found)}
        found += session.values(_Q["window"], **{**parameters, **bounds})
        until = begin
        if monotonic() > stop_at and len(found) < limit and until > ends.first:
            return found, until
    return found, None


def groups(session: Session, wanted: WantedDeliveries) -> list[ReasonGroup]:
    """Return what is not delivered by target, state and reason, the largest group first.

    The sum of all groups is `seen`; if it reaches GROUPED, there are more deliveries than were read.
    """
    narrow = wanted.only(NOT_DELIVERED)
    if not narrow.states:
        return []
    statement = _Q["groups"] if narrow.study is None else _Q["groups_of_study"]
    return session.rows(ReasonGroup, statement, **narrow.parameters(), most=GROUPED, limit=GROUPS)


def newest_id(session: Session) -> int:
    """Return the largest id of a delivery; 0 where there is none."""
    return session.only(_Ends, _Q["ends"]).last


def count(session: Session, wanted: WantedDeliveries, *, until: int) -> dict[State, int]:
    """Return how many of the wanted deliveries with an id of at most `until` are in each of their states."""
    if not wanted.states:
        return {}
    statement = _Q["count"] if wanted.study is None else _Q["count_of_study"]
    rows = session.all(statement, **wanted.parameters(), until=until)
    return {State(state): number for state, number in rows}


def following(session: Session, wanted: WantedDeliveries, *, after: int, until: int, limit: int) -> list[int]:
    """Return the next ids of wanted deliveries above `after` and up to `until`, the oldest first."""
    statement = _Q["slice"] if wanted.study is None else _Q["slice_of_study"]
    return session.values(statement, **wanted.parameters(), after=after, until=until, limit=limit)


def targets(session: Session) -> Iterator[Target]:
    """Yield the targets that have unsettled deliveries."""
    for row in session.rows(_TargetName, _Q["targets"]):
        yield Target(row.route, row.target)
