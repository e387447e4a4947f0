"""Find studies by time, sender and state of their deliveries, newest first, a page at a time. Only reads.

Instances are read by time of reception, for a limited time: a page then says how far it has looked. Where few
deliveries are in the states that are wanted, the search begins at these.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables import studies
from gateway.database.tables.studies import Position, StudyRow
from gateway.domain.delivery import State
from gateway.domain.instance import Kind
from gateway.domain.routing import Route, Target
from gateway.domain.unit import UnitState

FIRST_STEP, STEP = 2_000, 20_000
"""Instances that one statement reads: few first, because a page without a filter needs few."""
LOOK_SECONDS = 0.12
FEW = 3_000
"""So many deliveries in the wanted states are looked up one by one."""
RECENT = 5_000
"""The last instances, whose senders are offered as a filter."""
WAITING = (State.COLLECTING, State.PENDING, State.IN_FLIGHT)

_Q = load("study_search")


@dataclass(frozen=True, slots=True)
class WantedStudies:
    """Which studies an operator looks for; None means all. Times are of the reception of an instance."""

    begin: datetime | None = None
    until: datetime | None = None
    sender: str | None = None
    states: tuple[State, ...] = ()
    """They have a delivery in one of these states."""

    def parameters(self, after: Position | None) -> dict[str, object]:
        """Return it as parameters of a statement."""
        return {
            "begin": self.begin,
            "until": self.until,
            "sender": self.sender,
            "states": [state.value for state in self.states] or None,
            "received_at": None if after is None else after.received_at,
            "id": None if after is None else after.instance_id,
        }


class Found(NamedTuple):
    """A page of studies, newest first. `following`: where the next page begins; None at the end.

    `looked_to`: the time was over before the page was full, and this is how far back was looked.
    """

    study_instance_uids: tuple[str, ...]
    following: Position | None = None
    looked_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class StudyLine:
    """A study with how far it has come: originals and results by target and state, and what workers owe."""

    row: StudyRow
    originals: dict[Target, dict[State, int]] = field(default_factory=dict)
    results: dict[Target, dict[State, int]] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    """Deliveries to applications by what became of their result: answered, owed, overdue."""
    units: dict[UnitState, int] = field(default_factory=dict)


class _Reached(NamedTuple):
    received_at: datetime
    instance_id: int
    study_instance_uid: str | None


@dataclass(frozen=True, slots=True)
class _TargetCount:
    study_instance_uid: str
    kind: Kind
    route: Route
    target: str
    state: State
    count: int


def find(session: Session, wanted: WantedStudies, *, last: int, after: Position | None = None) -> Found:
    """Return at most `last` studies that are wanted, after `after` if given."""
    if wanted.states:
        ids = session.values(_Q["in_states"], states=wanted.parameters(None)["states"], most=FEW + 1)
        if len(ids) <= FEW:
            return _of_instances(session, wanted, ids, last, after)
    return _walk(session, wanted, last, after)


def _of_instances(
    session: Session, wanted: WantedStudies, ids: list[int], last: int, after: Position | None
) -> Found:
    rows = session.rows(_Reached, _Q["of_instances"], **wanted.parameters(after), ids=ids, limit=last + 1)
    places = {
        row.study_instance_uid: Position(row.received_at, row.instance_id)
        for row in rows
        if row.study_instance_uid is not None
    }
    return _found(places, last, None)


def _found(positions: dict[str, Position], last: int, reached: Position | None) -> Found:
    shown = dict(list(positions.items())[:last])
    if len(positions) > last:
        return Found(tuple(shown), list(shown.values())[-1])
    return Found(tuple(shown), reached, None if reached is None else reached.received_at)


def _walk(session: Session, wanted: WantedStudies, last: int, after: Position | None) -> Found:
    found: dict[str, Position] = {}
    shown_before: set[str] = set()
    position, step = after, FIRST_STEP
    stop_at = monotonic() + LOOK_SECONDS
    while True:
        rows = session.rows(_Reached, _Q["step"], **wanted.parameters(position), limit=step)
        if not rows:
            return _found(found, last, None)
        reached = rows[-1]
        new = [row for row in rows[:-1] if row.study_instance_uid not in found]
        if after is not None and new:
            shown_before |= _newer(session, wanted, new, after)
        for row in new:
            uid = row.study_instance_uid
            if uid is not None and uid not in shown_before:
                found[uid] = Position(row.received_at, row.instance_id)
        position, step = Position(reached.received_at, reached.instance_id), STEP
        if len(found) > last:
            return _found(found, last, None)
        if monotonic() > stop_at:
            return _found(found, last, position)


def _newer(session: Session, wanted: WantedStudies, rows: Sequence[_Reached], after: Position) -> set[str]:
    names = [row.study_instance_uid for row in rows]
    return set(session.values(_Q["newer"], **wanted.parameters(after), studies=names))


def lines(session: Session, study_instance_uids: Iterable[str]) -> list[StudyLine]:
    """Return how far these studies have come, in their order; those that are kept."""
    wanted = list(study_instance_uids)
    found = {row.study_instance_uid: StudyLine(row) for row in studies.rows_of(session, wanted)}
    for one in session.rows(_TargetCount, _Q["targets"], studies=wanted):
        line = found.get(one.study_instance_uid)
        if line is not None:
            counts = line.originals if one.kind is Kind.ORIGINAL else line.results
            counts.setdefault(Target(one.route, one.target), {})[one.state] = one.count
    for study, state, count in session.all(_Q["answers"], studies=wanted):
        if study in found:
            found[study].answers[state] = count
    for study, state, count in session.all(_Q["units"], studies=wanted):
        if study in found:
            found[study].units[UnitState(state)] = count
    return [found[study] for study in wanted if study in found]


def studies_of(session: Session, uid: str, *, limit: int = 20) -> list[str]:
    """Return the studies that hold an instance or a series with that UID."""
    return session.values(_Q["studies_of"], uid=uid, limit=limit)


def senders(session: Session) -> list[str]:
    """Return the AE titles that sent the last instances."""
    return session.values(_Q["senders"], limit=RECENT)
