"""Read the rows of studies from which `timeline` derives the steps of each instance. Only reads."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables import shown_units
from gateway.database.tables.shown_units import Dispatch, UnitRow
from gateway.domain.delivery import State
from gateway.domain.instance import Kind, Place
from gateway.domain.routing import Route

_Q = load("timeline")


class TimelineInstance(NamedTuple):
    """An instance."""

    instance_id: int
    sop_instance_uid: str
    study_instance_uid: str
    kind: Kind
    calling_ae_title: str
    received_at: datetime
    conflict: bool
    correlation: str | None
    late: bool
    place: Place
    repeats: int
    unforwarded: int
    unforwarded_at: datetime | None
    unforwarded_from: str | None


class TimelineDelivery(NamedTuple):
    """A delivery, and the other version that is sent before it."""

    delivery_id: int
    instance_id: int
    route: Route
    target: str
    state: State
    next_attempt_at: datetime | None
    settled_at: datetime | None
    settled_by: str | None
    destination: str | None
    last_status: int | None
    last_error: str | None
    lease_until: datetime | None
    unit_id: int | None
    waits_for: int | None
    waits_for_version: int | None


class TimelineAttempt(NamedTuple):
    """An attempt of a delivery."""

    delivery_id: int
    ended_at: datetime
    duration_ms: float
    destination: str
    outcome: str
    status: int | None
    error: str | None
    fenced: bool


class TimelineExpectation(NamedTuple):
    """A result that a worker owes, or owed."""

    instance_id: int
    worker: str
    state: str
    asked_at: datetime
    due_at: datetime
    arrived_at: datetime | None
    result_instance_id: int | None


class TimelineSource(NamedTuple):
    """A source instance of a result."""

    source_instance_id: int
    result_instance_id: int
    worker: str


class StudyFacts(NamedTuple):
    """The rows of some studies, by the instance or delivery that they belong to."""

    instances: dict[int, TimelineInstance]
    deliveries: dict[tuple[int, Route], list[TimelineDelivery]]
    attempts: dict[int, list[TimelineAttempt]]
    expectations: dict[int, list[TimelineExpectation]]
    results: dict[int, list[TimelineSource]]
    units: dict[int, UnitRow]
    dispatches: dict[int, list[Dispatch]]


def read_facts(session: Session, *, studies: Iterable[str] = (), ids: Iterable[int] = ()) -> StudyFacts:
    """Read the rows of these studies, or of the instances with these ids, and those of their results."""
    rows = session.rows(TimelineInstance, _Q["instances"], studies=list(studies), ids=list(ids))
    instances = {row.instance_id: row for row in rows}
    ids = list(instances)
    deliveries = session.rows(TimelineDelivery, _Q["deliveries"], instance_ids=ids)
    facts = StudyFacts(
        instances,
        defaultdict(list),
        defaultdict(list),
        defaultdict(list),
        defaultdict(list),
        {
            row.unit_id: row
            for row in shown_units.of_studies(session, {one.study_instance_uid for one in instances.values()})
        },
        defaultdict(list),
    )
    for dispatch in shown_units.dispatches_of(session, facts.units):
        facts.dispatches[dispatch.unit_id].append(dispatch)
    for delivery in deliveries:
        facts.deliveries[delivery.instance_id, delivery.route].append(delivery)
    for attempt in session.rows(TimelineAttempt, _Q["attempts"], instance_ids=ids):
        facts.attempts[attempt.delivery_id].append(attempt)
    for expectation in session.rows(TimelineExpectation, _Q["expectations"], instance_ids=ids):
        facts.expectations[expectation.instance_id].append(expectation)
    for source in session.rows(TimelineSource, _Q["sources"], instance_ids=ids):
        facts.results[source.source_instance_id].append(source)
    return facts
