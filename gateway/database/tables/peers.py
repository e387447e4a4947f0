"""What destinations did lately, and what workers still have to return."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session

RECENT = 20_000
"""Attempts that are read; at a high rate they cover less than the window."""
COUNT_LIMIT = 10_000

_Q = load("peers")


@dataclass(frozen=True, slots=True)
class LastError:
    """An error of a destination: how often it occurred within a window, and when it was last."""

    destination: str
    status: int | None
    error: str
    count: int
    last_at: datetime


class WorkerDebt(NamedTuple):
    """What a worker has to return; at most COUNT_LIMIT instances are counted."""

    ae_title: str
    applications: tuple[str, ...]
    instances: int
    units: int
    oldest_at: datetime | None
    due_at: datetime | None
    overdue: int


class AwaitedResult(NamedTuple):
    """A result that a worker has to return."""

    ae_title: str
    delivery_id: int
    asked_at: datetime
    due_at: datetime
    sop_instance_uid: str
    study_instance_uid: str


class FaultEffects(NamedTuple):
    """How many receptions were refused, and how many sends failed, by injected faults."""

    refused: int
    failed: int


def errors(session: Session, window: timedelta, *, each: int) -> list[LastError]:
    """Return the last errors within `window`, at most `each` of a destination, the last one first."""
    return session.rows(LastError, _Q["errors"], window=window, each=each, limit=RECENT)


def workers(session: Session) -> list[WorkerDebt]:
    """Return what each configured worker has to return."""
    return session.rows(WorkerDebt, _Q["workers"], limit=COUNT_LIMIT)


def awaited(session: Session, *, each: int) -> list[AwaitedResult]:
    """Return the awaited results with the first deadlines, at most `each` of a worker."""
    return session.rows(AwaitedResult, _Q["awaited"], each=each)


def fault_effects(session: Session, since: datetime) -> FaultEffects:
    """Return what injected faults did since a time."""
    return session.only(FaultEffects, _Q["fault_effects"], since=since, limit=RECENT)
