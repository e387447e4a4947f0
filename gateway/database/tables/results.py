"""Results that are expected, results that arrived, and the instances that they were derived from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.deliveries import mend_places
from gateway.domain.contract import EXPIRE_RESULT, FORWARD_TO_WORKER
from gateway.domain.matching import Candidate, Correlation

_Q = load("results")


class Expiry(StrEnum):
    """What happened to a deadline; see functions/expire_expectation.sql."""

    NOTHING = "nothing"
    POSTPONED = "postponed"
    REDISPATCHED = "redispatched"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True)
class Expired:
    """A deadline that was checked; worker and ids are None where nothing was to be done."""

    verdict: Expiry
    worker: str | None
    delivery_id: int | None
    instance_id: int | None


class Uids(NamedTuple):
    """The UIDs of an instance, for a log line."""

    study_instance_uid: str
    sop_instance_uid: str


class UnmatchedResult(NamedTuple):
    """A result that matched nothing, with what is needed to correlate it again."""

    instance_id: int
    sop_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    file_name: str
    place: str
    calling_ae_title: str
    remote_address: str


class _Met(NamedTuple):
    """An expectation that a result met; `state` is `arrived` or `late`."""

    delivery_id: int
    state: str


def candidates_by_reference(
    session: Session,
    *,
    workers: Sequence[str],
    sop_instance_uids: Sequence[str] = (),
    series_instance_uids: Sequence[str] = (),
    instance_ids: Sequence[int] = (),
) -> list[Candidate]:
    """Return the kept originals that a result of `workers` names; one version of each SOP Instance UID."""
    return session.rows(
        Candidate,
        _Q["candidates_by_reference"],
        workers=list(workers),
        sop_instance_uids=list(sop_instance_uids),
        series_instance_uids=list(series_instance_uids),
        instance_ids=list(instance_ids),
    )


def candidates_in_study(
    session: Session, *, workers: Sequence[str], studies: Sequence[str]
) -> list[Candidate]:
    """Return the kept originals of some studies; one version of each SOP Instance UID."""
    return session.rows(Candidate, _Q["candidates_in_study"], workers=list(workers), studies=list(studies))


def link_sources(session: Session, result_id: int, source_ids: Sequence[int], *, worker: str) -> None:
    """Record that the result was derived from those instances; repeating it changes nothing."""
    session.run(
        _Q["link_sources"], result_instance_id=result_id, source_instance_ids=list(source_ids), worker=worker
    )


def satisfy(session: Session, expectation_ids: Sequence[int], *, result_id: int) -> bool:
    """Mark expectations as met; tell whether one was late. Settle its redispatch if it was not sent yet."""
    met = session.rows(
        _Met, _Q["satisfy"], expectation_ids=list(expectation_ids), result_instance_id=result_id
    )
    late = [one.delivery_id for one in met if one.state == "late"]
    if late:
        answered = session.values(_Q["answered"], delivery_ids=late)
        mend_places(session, answered)  # reconcile moves the files to the folders in the rows
    return bool(late)


def flag(session: Session, instance_id: int, correlation: Correlation, *, late: bool) -> None:
    """Record how a result was correlated, and whether it came late."""
    session.run(_Q["flag"], instance_id=instance_id, correlation=correlation.value, late=late)


def expire(session: Session, expectation_id: int, *, max_redispatch: int, result_wait: timedelta) -> Expired:
    """Check one deadline; if it has passed, redispatch the instance or give the result up."""
    return session.only(
        Expired,
        _Q["expire"],
        expectation_id=expectation_id,
        max_redispatch=max_redispatch,
        result_wait=result_wait,
        actor_name=FORWARD_TO_WORKER.actor_name,
        expire_actor_name=EXPIRE_RESULT.actor_name,
        expire_queue=EXPIRE_RESULT.queue_name,
    )


def application_of(session: Session, expectation_id: int) -> str | None:
    """Return the application whose worker owes that result; None if it is no longer expected."""
    name: str | None = session.value(_Q["application_of"], expectation_id=expectation_id)
    return name


def overdue(session: Session, *, grace: timedelta, limit: int = 1000) -> list[int]:
    """Return the expectations that passed their deadline more than `grace` ago, oldest first."""
    return session.values(_Q["overdue"], grace=grace, limit=limit)


def uids_of(session: Session, instance_id: int) -> Uids | None:
    """Return the UIDs of an instance, for a log line."""
    return session.row(Uids, _Q["uids"], instance_id=instance_id)


def remember_unmatched(session: Session, result_id: int, uids: Sequence[str]) -> None:
    """Remember what a result names that matched nothing."""
    session.run(_Q["remember_unmatched"], result_id=result_id, uids=list(uids))


def forget_unmatched(session: Session, result_id: int) -> None:
    """Forget it, because the result has matched."""
    session.run(_Q["forget_unmatched"], result_id=result_id)


def unmatched_that_name(session: Session, uids: Sequence[str]) -> list[UnmatchedResult]:
    """Return the results that matched nothing and name one of `uids`; they are locked."""
    return session.rows(UnmatchedResult, _Q["unmatched_that_name"], uids=list(uids))
