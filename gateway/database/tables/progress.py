"""Whether deliveries and results move."""

from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables import flow
from gateway.domain.flow import TargetFlow
from gateway.domain.routing import Route

RESULT_LIMIT = 2000
LAST_RESULTS = 6
LATE_WINDOW = timedelta(minutes=5)
"""A late result that came longer ago says nothing about the worker of now."""
ACCEPTED_LIMIT = 50_000
RESULT_WINDOW = timedelta(hours=1)

_Q = load("progress")


class Due(NamedTuple):
    """A target with deliveries that are due, and since when the first one is."""

    route: Route
    target: str
    since: datetime


class WorkerResults(NamedTuple):
    """What a worker returned lately, and what it did not return since."""

    worker: str
    answered: int
    missing: int
    since: datetime | None
    late: int = 0
    """How many of the LAST_RESULTS that it returned last came after their deadline."""
    slowest: float = 0.0
    """The seconds that the slowest of these took."""


class Progress(NamedTuple):
    """What is due, what flows to each target, and what workers returned."""

    due: tuple[Due, ...] = ()
    last_due: tuple[Due, ...] = ()
    """For each target with deliveries that are not due yet: when the last of them is due."""
    flows: tuple[TargetFlow, ...] = ()
    workers: tuple[WorkerResults, ...] = ()


def progress(session: Session, *, lease: timedelta) -> Progress:
    """Read the progress; `lease` is that of the claims."""
    return Progress(
        tuple(session.rows(Due, _Q["due"])),
        tuple(session.rows(Due, _Q["last_due"])),
        tuple(flow.flows(session, lease=lease)),
        tuple(
            session.rows(
                WorkerResults,
                _Q["worker_results"],
                window=RESULT_WINDOW,
                limit=RESULT_LIMIT,
                last=LAST_RESULTS,
                lately=LATE_WINDOW,
            )
        ),
    )


class Accepted(NamedTuple):
    """When a sender last sent an instance that was registered."""

    calling_ae_title: str
    remote_address: str
    last_at: datetime


def accepted(session: Session, window: timedelta) -> list[Accepted]:
    """Return the senders whose instances were registered over the last minutes."""
    return session.rows(Accepted, _Q["accepted"], window=window, limit=ACCEPTED_LIMIT)
