"""Whether deliveries and results move."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables import queues
from gateway.database.tables.queues import Flow
from gateway.domain.routing import Route

DUE_LIMIT = 10_000
RESULT_LIMIT = 2000
ACCEPTED_LIMIT = 50_000
WINDOW = timedelta(minutes=5)
RESULT_WINDOW = timedelta(hours=1)

_Q = load("progress")


@dataclass(frozen=True, slots=True)
class Due:
    """How many deliveries of a route are due, at most DUE_LIMIT, and since when the first one is."""

    route: Route
    since: datetime | None
    count: int


@dataclass(frozen=True, slots=True)
class WorkerResults:
    """What a worker returned lately, and what it did not return since."""

    worker: str
    answered: int
    missing: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """What is due, what flowed over WINDOW, and what workers returned."""

    due: tuple[Due, ...] = ()
    flows: tuple[Flow, ...] = ()
    workers: tuple[WorkerResults, ...] = ()


def progress(session: Session) -> Progress:
    """Read the progress."""
    return Progress(
        tuple(session.rows(Due, _Q["due"], limit=DUE_LIMIT)),
        tuple(queues.flows(session, WINDOW)),
        tuple(session.rows(WorkerResults, _Q["worker_results"], window=RESULT_WINDOW, limit=RESULT_LIMIT)),
    )


@dataclass(frozen=True, slots=True)
class Accepted:
    """When a sender last sent an instance that was registered."""

    calling_ae_title: str
    remote_address: str
    last_at: datetime


def accepted(session: Session, window: timedelta) -> list[Accepted]:
    """Return the senders whose instances were registered over the last minutes."""
    return session.rows(Accepted, _Q["accepted"], window=window, limit=ACCEPTED_LIMIT)
