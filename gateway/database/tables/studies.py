"""The studies that are kept, newest first, a page at a time. Only reads."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.domain.delivery import State
from gateway.domain.routing import Route

STEP = 2000
"""Instances that one statement reads."""

_Q = load("studies")


class Position(NamedTuple):
    """Where a page ends: the newest instance of its last study."""

    received_at: datetime
    instance_id: int


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One study. `deliveries` counts those of its originals and results, by route and state."""

    study_instance_uid: str
    first_received_at: datetime
    last_received_at: datetime
    calling_ae_titles: tuple[str, ...]
    instances: int
    results: int
    conflicts: int
    deliveries: dict[Route, dict[State, int]] = field(default_factory=dict)


class _Walked(NamedTuple):
    received_at: datetime
    instance_id: int
    study_instance_uid: str


@dataclass(frozen=True, slots=True)
class _DeliveryCount:
    study_instance_uid: str
    route: Route
    state: State
    count: int


def is_kept(session: Session, study_instance_uid: str) -> bool:
    """Tell whether any instance of that study is kept."""
    return bool(session.value(_Q["is_kept"], study=study_instance_uid))


class _ResultSeries(NamedTuple):
    study_instance_uid: str
    results: int


def result_series(session: Session, studies: Iterable[str]) -> dict[str, list[int]]:
    """Return how many results each series of results has, per study, the longest first."""
    found: dict[str, list[int]] = {}
    for row in session.rows(_ResultSeries, _Q["result_series"], studies=list(studies)):
        found.setdefault(row.study_instance_uid, []).append(row.results)
    return found


def page(session: Session, *, last: int, after: Position | None) -> tuple[list[StudyRow], Position | None]:
    """Return at most `last` studies by their newest instance, and the end of the page (None: it is the last).

    A study that gets a new instance while pages are read moves to the first page.
    """
    found = _newest(session, last + 1, after)
    shown = dict(list(found.items())[:last])
    position = list(shown.values())[-1] if len(found) > last else None
    return rows_of(session, list(shown)), position


def _newest(session: Session, wanted: int, after: Position | None) -> dict[str, Position]:
    found: dict[str, Position] = {}
    shown_before: set[str] = set()
    position = after
    while len(found) < wanted:
        walked = session.rows(
            _Walked,
            _Q["step"],
            received_at=None if position is None else position.received_at,
            id=None if position is None else position.instance_id,
            limit=STEP,
        )
        studies = dict.fromkeys(instance.study_instance_uid for instance in walked)
        new = [study for study in studies if study not in found and study not in shown_before]
        if after is not None and new:
            shown_before |= set(
                session.values(_Q["newer"], studies=new, received_at=after.received_at, id=after.instance_id)
            )
        for received_at, instance_id, study in walked:
            if study not in shown_before and (study in found or len(found) < wanted):
                found.setdefault(study, Position(received_at, instance_id))
        if len(walked) < STEP:
            break
        position = Position(walked[-1].received_at, walked[-1].instance_id)
    return found


def rows_of(session: Session, studies: list[str]) -> list[StudyRow]:
    """Return these studies in their order; those that are kept."""
    counts: dict[str, dict[Route, dict[State, int]]] = {study: {} for study in studies}
    for row in session.rows(_DeliveryCount, _Q["deliveries"], studies=studies):
        counts[row.study_instance_uid].setdefault(row.route, {})[row.state] = row.count
    found = {row.study_instance_uid: row for row in session.rows(StudyRow, _Q["instances"], studies=studies)}
    # the purge may have deleted one meanwhile
    return [replace(found[study], deliveries=counts[study]) for study in studies if study in found]
