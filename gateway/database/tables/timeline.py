"""Derive the timelines of studies from the rows of instances, deliveries, attempts and results.

Only reads. There is no second record of what happened. If an instance has not reached all its destinations,
its last step says what it waits for, and until when. timeline_rows.py reads the rows.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from gateway.database.session import Session
from gateway.database.tables.selected_deliveries import waits_for_version
from gateway.database.tables.shown_units import UnitRow
from gateway.database.tables.timeline_rows import (
    StudyFacts,
    TimelineDelivery,
    TimelineInstance,
    TimelineSource,
    read_facts,
)
from gateway.domain.delivery import State
from gateway.domain.instance import Kind
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.domain.timeline import InstanceTimeline, Step, StepName
from gateway.domain.unit import UnitState

_NEVER = datetime.max.replace(tzinfo=UTC)
RECEIVED, ASKED, ANSWERED, FENCED = "received", "asked", "answered", "fenced"
EQUALS_SOURCE, NOT_FORWARDED = "equals its source", "repeat, not forwarded"
_DONE = {RECEIVED, ASKED, ANSWERED, Outcome.DELIVERED, Outcome.ALREADY_THERE}


def of_study(session: Session, study_instance_uid: str) -> list[InstanceTimeline]:
    """Return the instances of a study by reception; none where nothing of it is kept."""
    return of_studies(session, [study_instance_uid])


def of_studies(session: Session, study_instance_uids: Iterable[str]) -> list[InstanceTimeline]:
    """Return the instances of several studies by reception.

    The steps of a result are listed with the instances that it was derived from. A result that matched no
    instance has a timeline of its own.
    """
    studies = set(study_instance_uids)
    facts = read_facts(session, studies=studies)
    shown_elsewhere = {source.result_instance_id for of_one in facts.results.values() for source in of_one}
    return [
        _timeline(instance, facts)
        for instance in facts.instances.values()
        if instance.study_instance_uid in studies and instance.instance_id not in shown_elsewhere
    ]


def of_instances(session: Session, instance_ids: Iterable[int]) -> list[InstanceTimeline]:
    """Return the timelines of these instances by reception; results have a timeline of their own, too."""
    wanted = set(instance_ids)
    facts = read_facts(session, ids=wanted)
    return [_timeline(one, facts) for one in facts.instances.values() if one.instance_id in wanted]


def _timeline(instance: TimelineInstance, facts: StudyFacts) -> InstanceTimeline:
    sources = facts.results.get(instance.instance_id, ())
    results = [facts.instances[source.result_instance_id] for source in sources]
    return InstanceTimeline(
        instance_id=instance.instance_id,
        sop_instance_uid=instance.sop_instance_uid,
        study_instance_uid=instance.study_instance_uid,
        kind=instance.kind,
        place=instance.place,
        conflict=instance.conflict,
        repeats=instance.repeats,
        unforwarded=instance.unforwarded,
        result_sop_instance_uids=tuple(result.sop_instance_uid for result in results),
        steps=tuple(sorted(_steps(instance, facts), key=lambda step: step.at or _NEVER)),
    )


# ---- from rows to steps --------------------------------------------------------------------------


def _steps(instance: TimelineInstance, facts: StudyFacts) -> Iterator[Step]:
    if instance.kind is Kind.RESULT:
        yield from _result_steps(instance, facts, worker=instance.calling_ae_title, asked_at=None)
        return
    yield Step(StepName.RECEIVED, instance.received_at, None, instance.calling_ae_title, RECEIVED, done=True)
    yield from _repeat_steps(instance)
    yield from _delivery_steps(StepName.PACS, facts, instance.instance_id, Route.PACS)
    yield from _delivery_steps(StepName.ARCHIVE, facts, instance.instance_id, Route.ARCHIVES)
    yield from _worker_steps(instance.instance_id, facts)
    for source in facts.results.get(instance.instance_id, ()):
        result = facts.instances[source.result_instance_id]
        asked_at = _asked_at(source, result.received_at, facts)
        yield from _result_steps(result, facts, worker=source.worker, asked_at=asked_at)


def _repeat_steps(instance: TimelineInstance) -> Iterator[Step]:
    """Yield the last repeat that was not forwarded, with the command that forwards it."""
    if instance.unforwarded:
        how = f"delivered before; `mini-pacs deliveries resend --study {instance.study_instance_uid}`"
        yield Step(
            StepName.RECEIVED,
            instance.unforwarded_at,
            None,
            instance.unforwarded_from,
            NOT_FORWARDED,
            error=how,
        )


def _worker_steps(instance_id: int, facts: StudyFacts) -> Iterator[Step]:
    for one in facts.expectations.get(instance_id, ()):
        yield Step(StepName.WORKER_ASKED, one.asked_at, None, one.worker, ASKED, done=True)
        if one.state == "timed_out":
            waited = (one.due_at - one.asked_at).total_seconds()
            error = f"{one.worker} did not answer in time"
            yield Step(StepName.RESULT, one.due_at, waited, one.worker, one.state, error=error)
        elif one.state == "owed":
            yield Step(StepName.RESULT, one.due_at, None, one.worker, one.state)
        elif one.result_instance_id == instance_id and one.arrived_at is not None:
            took = (one.arrived_at - one.asked_at).total_seconds()
            outcome = f"{EQUALS_SOURCE}{', late' if one.state == 'late' else ''}"
            yield Step(StepName.RESULT, one.arrived_at, took, one.worker, outcome, done=True)
    yield from _unit_steps(instance_id, facts)
    yield from _delivery_steps(StepName.WORKER, facts, instance_id, Route.WORKERS)


def _unit_steps(instance_id: int, facts: StudyFacts) -> Iterator[Step]:
    """Yield how often the unit of an instance was sent, and what became of its result."""
    for delivery in facts.deliveries.get((instance_id, Route.WORKERS), ()):
        unit = None if delivery.unit_id is None else facts.units.get(delivery.unit_id)
        if unit is not None:
            yield from _steps_of_unit(instance_id, unit, facts)


def _steps_of_unit(instance_id: int, unit: UnitRow, facts: StudyFacts) -> Iterator[Step]:
    for one in facts.dispatches[unit.unit_id]:
        what = f"{ASKED}, with its {unit.unit}"
        yield Step(StepName.WORKER_ASKED, one.began_at, None, one.worker, what, error=one.error, done=True)
        if one.timed_out_at is not None:
            waited = (one.timed_out_at - one.began_at).total_seconds()
            error = f"{one.worker} did not answer in time"
            yield Step(StepName.RESULT, one.timed_out_at, waited, one.worker, "timed_out", error=error)
    if unit.state is UnitState.SENT:
        yield Step(StepName.RESULT, unit.next_attempt_at, None, unit.worker, "owed")
    elif unit.state is UnitState.SUPERSEDED:
        error = f"a later generation has all of its {unit.unit}"
        yield Step(StepName.RESULT, unit.settled_at, None, unit.worker, unit.state.value, error=error)
    elif unit.state is UnitState.ANSWERED and not facts.results.get(instance_id):
        what = f"{ANSWERED}, with its {unit.unit}"
        yield Step(StepName.RESULT, unit.settled_at, None, unit.worker, what, done=True)


def _asked_at(source: TimelineSource, came_at: datetime, facts: StudyFacts) -> datetime | None:
    """Return when the worker of a result was asked for it: the last time before the result came."""
    asked = [
        one.asked_at
        for one in facts.expectations.get(source.source_instance_id, ())
        if one.worker == source.worker and one.asked_at <= came_at
    ]
    return max(asked, default=None)


def _result_steps(
    result: TimelineInstance, facts: StudyFacts, *, worker: str, asked_at: datetime | None
) -> Iterator[Step]:
    version = ", a version of a UID that was received before" if result.conflict else ""
    outcome = f"{result.correlation or RECEIVED}{', late' if result.late else ''}{version}"
    seconds = None if asked_at is None else (result.received_at - asked_at).total_seconds()
    yield Step(StepName.RESULT, result.received_at, seconds, worker, outcome, done=True)
    yield from _repeat_steps(result)
    yield from _delivery_steps(StepName.RESULT_AT_PACS, facts, result.instance_id, Route.PACS)
    yield from _delivery_steps(StepName.RESULT_AT_ARCHIVE, facts, result.instance_id, Route.ARCHIVES)


def _delivery_steps(name: StepName, facts: StudyFacts, instance_id: int, route: Route) -> Iterator[Step]:
    """Yield the steps of each delivery of the instance on a route."""
    for delivery in facts.deliveries.get((instance_id, route), ()):
        yield from _steps_of_delivery(name, facts, delivery)


def _steps_of_delivery(name: StepName, facts: StudyFacts, delivery: TimelineDelivery) -> Iterator[Step]:
    """Yield each attempt, then the state of the delivery where the attempts do not say it."""
    has_delivered = False
    last_end: datetime | None = None
    for one in facts.attempts.get(delivery.delivery_id, ()):
        done = one.outcome in _DONE and not one.fenced
        has_delivered = has_delivered or done
        last_end = one.ended_at
        shown = f"{one.outcome}, {FENCED}" if one.fenced else one.outcome
        seconds = one.duration_ms / 1000
        yield Step(name, one.ended_at, seconds, one.destination, shown, one.status, one.error, done=done)
    # The time of a settle is the begin of its transaction, just before the end of its attempt: list it after
    # that.
    next_at = _not_before(delivery.next_attempt_at, last_end)
    settled_at = _not_before(delivery.settled_at, last_end)
    at_archive = delivery.target if delivery.route is Route.ARCHIVES else None
    state, peer = delivery.state.value, delivery.destination or at_archive
    status, error = delivery.last_status, delivery.last_error
    match delivery.state:
        case State.COLLECTING:
            yield Step(name, next_at, None, None, state, error=_why_collecting(delivery, facts))
        case State.PENDING:
            waiting = waits_for_version(delivery.waits_for_version, delivery.waits_for)
            yield Step(name, None if waiting else next_at, None, peer, state, status, waiting or error)
        case State.IN_FLIGHT:
            yield Step(name, delivery.lease_until, None, peer, "in flight")
        case State.DEAD:
            yield Step(name, settled_at, None, peer, state, status, error)
        case State.CANCELLED:
            yield Step(name, settled_at, None, delivery.settled_by, state, status, error)
        case State.DELIVERED if not has_delivered:
            # The attempt was lost or cancelled; later the arrival of the result settled the delivery.
            yield Step(name, settled_at, None, peer, ANSWERED, done=True)


def _why_collecting(delivery: TimelineDelivery, facts: StudyFacts) -> str:
    unit = None if delivery.unit_id is None else facts.units.get(delivery.unit_id)
    if unit is None or unit.state is UnitState.COLLECTING:
        return "waits for the rest of its series or study; `mini-pacs studies complete UID` sends it now"
    if unit.state is UnitState.SENDING:
        return f"its {unit.unit} is being sent to {unit.worker}"
    return f"its {unit.unit} is complete by {unit.completed_by}: {unit.last_error or 'it is due'}"


def _not_before(when: datetime | None, earliest: datetime | None) -> datetime | None:
    return when if when is None or earliest is None else max(when, earliest)
