"""Derive the timelines of studies from the rows of instances, deliveries, attempts and results.

Only reads. There is no second record of what happened. The last step of an instance whose way is not at
its end says what the instance waits for, and until when.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.database.queries import load
from gateway.database.session import Row, Session
from gateway.database.tables.deliveries import waits_for_version
from gateway.domain.delivery import State
from gateway.domain.instance import Kind, Place
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.domain.timeline import InstanceTimeline, Step, StepName

_Q = load("timeline")
_NEVER = datetime.max.replace(tzinfo=UTC)
RECEIVED, ASKED, ANSWERED, FENCED = "received", "asked", "answered", "fenced"
EQUALS_SOURCE, NOT_FORWARDED = "equals its source", "repeat, not forwarded"
_DONE = {RECEIVED, ASKED, ANSWERED, Outcome.DELIVERED, Outcome.ALREADY_THERE}


@dataclass(frozen=True, slots=True)
class _Facts:
    """The rows of a study, by what they belong to."""

    instances: dict[int, Row]
    deliveries: dict[tuple[int, Route], Row]
    attempts: dict[int, list[Row]]
    expectations: dict[int, list[Row]]
    results: dict[int, list[Row]]


def of_study(session: Session, study_instance_uid: str) -> list[InstanceTimeline]:
    """Return the instances of a study by reception; none where nothing of it is kept."""
    return of_studies(session, [study_instance_uid])


def of_studies(session: Session, study_instance_uids: Iterable[str]) -> list[InstanceTimeline]:
    """Return the instances of several studies by reception.

    The steps of a result are listed with the instances that it was derived from. A result that matched no
    instance has a timeline of its own.
    """
    studies = set(study_instance_uids)
    facts = _facts(session, studies)
    shown_elsewhere = {row[1] for rows in facts.results.values() for row in rows}
    return [
        _timeline(row, facts)
        for row in facts.instances.values()
        if row[2] in studies and row[0] not in shown_elsewhere
    ]


def _timeline(instance: Row, facts: _Facts) -> InstanceTimeline:
    results = [facts.instances[row[1]] for row in facts.results.get(instance[0], ())]
    return InstanceTimeline(
        instance_id=instance[0],
        sop_instance_uid=instance[1],
        study_instance_uid=instance[2],
        kind=Kind(instance[3]),
        place=Place(instance[9]),
        conflict=instance[6],
        repeats=instance[10],
        unforwarded=instance[11],
        result_sop_instance_uids=tuple(result[1] for result in results),
        steps=tuple(sorted(_steps(instance, facts), key=lambda step: step.at or _NEVER)),
    )


# ---- from rows to steps --------------------------------------------------------------------------


def _facts(session: Session, studies: Iterable[str]) -> _Facts:
    instances = {row[0]: row for row in session.all(_Q["instances"], studies=list(studies))}
    ids = list(instances)
    return _Facts(
        instances,
        {(row[1], Route(row[2])): row for row in session.all(_Q["deliveries"], instance_ids=ids)},
        _by_first(session.all(_Q["attempts"], instance_ids=ids)),
        _by_first(session.all(_Q["expectations"], instance_ids=ids)),
        _by_first(session.all(_Q["sources"], instance_ids=ids)),
    )


def _by_first(rows: Iterable[Row]) -> dict[int, list[Row]]:
    grouped: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row[0]].append(row)
    return grouped


def _steps(instance: Row, facts: _Facts) -> Iterator[Step]:
    instance_id, kind = instance[0], Kind(instance[3])
    if kind is Kind.RESULT:
        yield from _result_steps(instance, facts, worker=instance[4], asked_at=None)
        return
    yield Step(StepName.RECEIVED, instance[5], None, instance[4], RECEIVED, done=True)
    yield from _repeat_steps(instance)
    yield from _delivery_steps(StepName.PACS, facts, instance_id, Route.PACS)
    yield from _worker_steps(instance_id, facts)
    for _, result_id, worker in facts.results.get(instance_id, ()):
        result = facts.instances[result_id]
        asked_at = _asked_at(instance_id, worker, result[5], facts)
        yield from _result_steps(result, facts, worker=worker, asked_at=asked_at)


def _repeat_steps(instance: Row) -> Iterator[Step]:
    """Yield the last repeat that was not forwarded, with the command that forwards it."""
    count, at, caller = instance[11:14]
    if count:
        how = f"delivered before; `mini-pacs deliveries resend --study {instance[2]}`"
        yield Step(StepName.RECEIVED, at, None, caller, NOT_FORWARDED, error=how)


def _worker_steps(instance_id: int, facts: _Facts) -> Iterator[Step]:
    for _, worker, state, asked_at, due_at, arrived_at, result_id in facts.expectations.get(instance_id, ()):
        yield Step(StepName.WORKER_ASKED, asked_at, None, worker, ASKED, done=True)
        if state == "timed_out":
            waited = (due_at - asked_at).total_seconds()
            error = f"{worker} did not answer in time"
            yield Step(StepName.RESULT, due_at, waited, worker, state, error=error)
        elif state == "owed":
            yield Step(StepName.RESULT, due_at, None, worker, state)
        elif result_id == instance_id:
            took = (arrived_at - asked_at).total_seconds()
            outcome = f"{EQUALS_SOURCE}{', late' if state == 'late' else ''}"
            yield Step(StepName.RESULT, arrived_at, took, worker, outcome, done=True)
    yield from _delivery_steps(StepName.WORKER, facts, instance_id, Route.WORKERS)


def _asked_at(instance_id: int, worker: str, came_at: datetime, facts: _Facts) -> datetime | None:
    """Return when the worker of a result was asked for it: the last time before the result came."""
    asked: list[datetime] = [
        row[3] for row in facts.expectations.get(instance_id, ()) if row[1] == worker and row[3] <= came_at
    ]
    return max(asked, default=None)


def _result_steps(result: Row, facts: _Facts, *, worker: str, asked_at: datetime | None) -> Iterator[Step]:
    result_id, received_at, conflict, correlation, late = result[0], *result[5:9]
    version = ", a version of a UID that was received before" if conflict else ""
    outcome = f"{correlation or RECEIVED}{', late' if late else ''}{version}"
    seconds = None if asked_at is None else (received_at - asked_at).total_seconds()
    yield Step(StepName.RESULT, received_at, seconds, worker, outcome, done=True)
    yield from _repeat_steps(result)
    yield from _delivery_steps(StepName.RESULT_AT_PACS, facts, result_id, Route.PACS)


def _delivery_steps(name: StepName, facts: _Facts, instance_id: int, route: Route) -> Iterator[Step]:
    """Yield each attempt, then the state of the delivery where the attempts do not say it."""
    delivery = facts.deliveries.get((instance_id, route))
    if delivery is None:
        return
    has_delivered = False
    last_end: datetime | None = None
    for _, ended_at, duration_ms, peer, outcome, status, error, fenced in facts.attempts.get(delivery[0], ()):
        done = outcome in _DONE and not fenced
        has_delivered = has_delivered or done
        last_end = ended_at
        shown = f"{outcome}, {FENCED}" if fenced else outcome
        yield Step(name, ended_at, duration_ms / 1000, peer, shown, status, error, done=done)
    state, next_at, settled_at, settled_by, peer, status, error, lease_until, before, number = delivery[3:]
    # A settle has the time at which its transaction began, just before the end of its attempt; list it after.
    next_at, settled_at = (_not_before(when, last_end) for when in (next_at, settled_at))
    match State(state):
        case State.PENDING:
            waiting = waits_for_version(number, before)
            yield Step(name, None if waiting else next_at, None, peer, state, status, waiting or error)
        case State.IN_FLIGHT:
            yield Step(name, lease_until, None, peer, "in flight")
        case State.DEAD:
            yield Step(name, settled_at, None, peer, state, status, error)
        case State.CANCELLED:
            yield Step(name, settled_at, None, settled_by, state, status, error)
        case State.DELIVERED if not has_delivered:
            # The arrival of its result settled it, after the attempt was lost or cancelled.
            yield Step(name, settled_at, None, peer, ANSWERED, done=True)


def _not_before(when: datetime | None, earliest: datetime | None) -> datetime | None:
    return when if when is None or earliest is None else max(when, earliest)
