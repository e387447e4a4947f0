"""The studies that are kept, newest first, a page at a time. Only reads."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Row, Session
from gateway.domain.delivery import State
from gateway.domain.routing import Route

STEP = 2000
"""Instances that one statement walks over."""

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
    deliveries: dict[Route, dict[State, int]]


def is_kept(session: Session, study_instance_uid: str) -> bool:
    """Tell whether any instance of that study is kept."""
    row = session.one(_Q["is_kept"], study=study_instance_uid)
    return row is not None and bool(row[0])


def page(session: Session, *, last: int, after: Position | None) -> tuple[list[StudyRow], Position | None]:
    """At most `last` studies by their newest instance, and where the next page begins (None: there is none).

    A study that gets another instance while pages are read is on the first page from then on.
    """
    found = _newest(session, last + 1, after)
    shown = dict(list(found.items())[:last])
    position = list(shown.values())[-1] if len(found) > last else None
    return _rows(session, list(shown)), position


def _newest(session: Session, wanted: int, after: Position | None) -> dict[str, Position]:
    found: dict[str, Position] = {}
    shown_before: set[str] = set()
    position = after
    while len(found) < wanted:
        rows = session.all(
            _Q["step"],
            received_at=None if position is None else position.received_at,
            id=None if position is None else position.instance_id,
            limit=STEP,
        )
        new = list(dict.fromkeys(row[2] for row in rows if row[2] not in found.keys() | shown_before))
        if after is not None and new:
            newer = session.all(_Q["newer"], studies=new, received_at=after.received_at, id=after.instance_id)
            shown_before |= {row[0] for row in newer}
        for received_at, instance_id, study in rows:
            if study not in shown_before and (study in found or len(found) < wanted):
                found.setdefault(study, Position(received_at, instance_id))
        if len(rows) < STEP:
            break
        position = Position(rows[-1][0], rows[-1][1])
    return found


def _rows(session: Session, studies: list[str]) -> list[StudyRow]:
    counts: dict[str, dict[Route, dict[State, int]]] = {study: {} for study in studies}
    for study, route, state, count in session.all(_Q["deliveries"], studies=studies):
        counts[study].setdefault(Route(route), {})[State(state)] = count
    rows = {row[0]: row for row in session.all(_Q["instances"], studies=studies)}
    # purge may have forgotten one meanwhile
    return [_row(rows[study], counts[study]) for study in studies if study in rows]


def _row(row: Row, counts: dict[Route, dict[State, int]]) -> StudyRow:
    columns: Row = (*row[:3], tuple(row[3]), *row[4:], counts)
    return StudyRow(*columns)
