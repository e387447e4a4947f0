"""Units as operators see them: how many, which of a study, and how often each was sent.

An operator may also complete a unit early. units.py is the other half: actors claim, send and settle units.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.domain.unit import UnitState

_Q = load("shown_units")


class CompletedUnit(NamedTuple):
    """A unit that an operator completed."""

    unit_id: int
    application: str
    unit: str
    uid: str
    generation: int
    instances: int


class UnitCount(NamedTuple):
    """Units of one application in one state."""

    application: str
    state: UnitState
    units: int
    oldest: datetime


class UnitRow(NamedTuple):
    """A unit as an operator sees it."""

    unit_id: int
    application: str
    unit: str
    study_instance_uid: str
    uid: str
    generation: int
    state: UnitState
    first_at: datetime
    last_at: datetime
    completed_at: datetime | None
    completed_by: str | None
    worker: str | None
    next_attempt_at: datetime | None
    sent_at: datetime | None
    settled_at: datetime | None
    redispatches: int
    last_error: str | None
    instances: int


class Dispatch(NamedTuple):
    """One time that a unit was sent to a worker."""

    unit_id: int
    worker: str
    began_at: datetime
    ended_at: datetime | None
    outcome: str | None
    instances: int | None
    error: str | None
    timed_out_at: datetime | None
    result_at: datetime | None


def complete(session: Session, uid: str, *, application: str | None, by: str) -> list[CompletedUnit]:
    """Complete the units of a study or a series that are collecting; return them."""
    return session.rows(CompletedUnit, _Q["complete"], uid=uid, application=application, by=by)


def counts(session: Session) -> list[UnitCount]:
    """Return how many units of each application are in each state that is not settled."""
    return session.rows(UnitCount, _Q["counts"])


def of_studies(session: Session, studies: Iterable[str]) -> list[UnitRow]:
    """Return the units of some studies, oldest first."""
    return session.rows(UnitRow, _Q["of_studies"], studies=list(studies))


def dispatches_of(session: Session, unit_ids: Iterable[int]) -> list[Dispatch]:
    """Return each time that these units were sent, oldest first."""
    return session.rows(Dispatch, _Q["dispatches_of"], unit_ids=list(unit_ids))
