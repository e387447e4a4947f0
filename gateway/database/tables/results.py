"""Results that are expected, results that arrived, and the instances that they were derived from."""

import json
from collections.abc import Iterable, Sequence
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


class Expired(NamedTuple):
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


class ResultReferences(NamedTuple):
    """What a result names, and the workers that it may come from."""

    workers: Sequence[str]
    sop_instance_uids: Sequence[str] = ()
    series_instance_uids: Sequence[str] = ()
    instance_ids: Sequence[int] = ()


class FoundSources(NamedTuple):
    """What is recorded of one result; see functions/record_correlations.sql."""

    result_id: int
    correlation: Correlation | None
    worker: str
    workers: Sequence[str]
    sources: Sequence[int]
    expectations: Sequence[int]
    unit_sources: Sequence[int] = ()
    studies: Sequence[str] = ()


class RecordedResult(NamedTuple):
    """How the result is correlated now. `late`: an expected result that it met had timed out before.

    `is_older`: it is of an older generation of a series or study. `late_deliveries`: see `record`.
    """

    correlation: str | None
    late: bool
    is_older: bool
    late_deliveries: Sequence[int]


class _Named(NamedTuple):
    """A candidate of the result at that position."""

    position: int
    instance_id: int
    expectation_ids: tuple[int, ...]
    worker: str | None


def candidates_by_reference(session: Session, asked: Sequence[ResultReferences]) -> list[list[Candidate]]:
    """Return for each result the kept originals that it names; one version of each SOP Instance UID."""
    found: list[list[Candidate]] = [[] for _ in asked]
    rows = session.rows(_Named, _Q["candidates_by_reference"], asked=_in_json(asked))
    for one in rows:
        found[one.position].append(Candidate(one.instance_id, one.expectation_ids, one.worker))
    return found


def _in_json(batch: Iterable[ResultReferences | FoundSources]) -> str:
    return json.dumps([{"position": n, **one._asdict()} for n, one in enumerate(batch)])


def candidates_in_study(
    session: Session, *, workers: Sequence[str], studies: Sequence[str]
) -> list[Candidate]:
    """Return the kept originals of some studies; one version of each SOP Instance UID."""
    return session.rows(Candidate, _Q["candidates_in_study"], workers=list(workers), studies=list(studies))


def record(session: Session, found: Sequence[FoundSources]) -> list[RecordedResult]:
    """Link results to their sources, and mark as met what was expected.

    If one was late, settle its redispatch where that was not sent yet. No expectation is in two of `found`.
    """
    recorded = session.rows(RecordedResult, _Q["record"], found=_in_json(found))
    late = [delivery for one in recorded for delivery in one.late_deliveries]
    if late:
        answered = session.values(_Q["answered"], delivery_ids=late)
        mend_places(session, answered)  # reconcile moves the files to the folders in the rows
    return recorded


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
