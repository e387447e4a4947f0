"""The timeline of a study, derived from the rows, at every step of the flow."""

from datetime import timedelta

import pytest
from support.prepared_instances import STUDY, PreparedInstances

from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.database.session import Row, Session
from gateway.database.tables.timeline import of_studies, of_study
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.domain.timeline import AT_ARCHIVES, InstanceTimeline, Step, StepName, summary


def timelines(kept: PreparedInstances, study: str = STUDY) -> list[InstanceTimeline]:
    """Return the timeline of a study that an operator sees."""
    with kept.database.transaction() as session:
        return of_study(session, study)


def steps(kept: PreparedInstances) -> list[Step]:
    """Return the steps of the only instance."""
    [timeline] = timelines(kept)
    return list(timeline.steps)


def test_an_unknown_study_has_no_timeline(kept: PreparedInstances) -> None:
    """An empty list, and a summary in which no step is done."""
    assert timelines(kept) == []
    assert {step.done for step in summary([])} == {0}


def test_a_result_that_is_committed_while_the_rows_are_read_is_left_for_the_next_reading(
    kept: PreparedInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instances are read first; a newer result of theirs does not break the following reads."""
    kept.receive(1)
    read = Session.all
    committed: list[str] = []

    def all_then_a_result(session: Session, query: Query, **parameters: object) -> list[Row]:
        rows = read(session, query, **parameters)
        if not committed:
            committed.append(query.name)
            kept.result(2, source=1, worker="APP01")
        return rows

    database = Database(kept.database.dsn, application_name="test", size=1)
    try:
        with database.transaction() as session:
            monkeypatch.setattr(Session, "all", all_then_a_result)
            [timeline] = of_study(session, STUDY)
    finally:
        database.close()
    assert committed == ["instances"]
    assert timeline.result_sop_instance_uids == ()
    assert [one.result_sop_instance_uids for one in timelines(kept)] == [(f"{STUDY}.2",)]


def test_several_studies_are_read_at_once(kept: PreparedInstances) -> None:
    """Each instance is shown once, by reception, with its steps in its own study."""
    for number, study in enumerate(("1.1", "1.2", "1.1", "1.3")):
        kept.receive(number, study=study)
    with kept.database.transaction() as session:
        found = of_studies(session, ["1.1", "1.2", "1.1"])
    assert [one.sop_instance_uid for one in found] == ["1.1.0", "1.2.1", "1.1.2"]
    assert [one for one in found if one.study_instance_uid == "1.1"] == timelines(kept, "1.1")


def test_a_new_instance_is_pending_at_both_destinations(kept: PreparedInstances) -> None:
    """G2: the timeline shows both deliveries as pending, with their time."""
    kept.receive(1)
    received, *owed = steps(kept)
    assert (received.name, received.by, received.done) == (StepName.RECEIVED, "ORTHANC", True)
    assert {(s.name, s.outcome, s.done) for s in owed} == {
        (StepName.PACS, "pending", False),
        (StepName.WORKER, "pending", False),
    }
    assert all(step.at is not None for step in owed)


def test_the_timeline_has_every_step_in_order(kept: PreparedInstances) -> None:
    """Received, PACS, worker asked, worker, result, result at PACS: one line each, with peer and duration."""
    original = kept.receive(1)
    kept.forward(original)
    claim = kept.claim_for_worker(kept.delivery(original, Route.WORKERS))
    kept.settle(claim, Route.WORKERS, State.DELIVERED)
    result, _ = kept.result(2, source=1, worker=claim.destination)
    kept.forward(result)
    found = steps(kept)
    assert [step.name for step in found] == [name for name in StepName if name not in AT_ARCHIVES]
    assert all(step.done for step in found)
    worker = claim.destination
    assert [step.by for step in found] == ["ORTHANC", "ORTHANC", worker, worker, worker, "ORTHANC"]
    by_name = {step.name: step for step in found}
    assert by_name[StepName.PACS].seconds == pytest.approx(0.012)
    assert by_name[StepName.RESULT].seconds is not None
    assert by_name[StepName.RESULT].outcome == "references"
    figures = {step.name: (step.done, step.by) for step in summary(timelines(kept))}
    assert figures[StepName.WORKER] == (1, (worker,))
    assert {done for done, _ in figures.values()} == {1}


def test_a_failed_attempt_is_shown_before_the_next_one(kept: PreparedInstances) -> None:
    """An attempt with its status and error, then what the delivery waits for and until when."""
    kept.forward(
        kept.receive(1), State.PENDING, outcome=Outcome.REFUSED, status=0xA900, error="no such SOP Class"
    )
    pacs = [step for step in steps(kept) if step.name is StepName.PACS]
    assert [(step.outcome, step.status, step.done) for step in pacs] == [
        ("refused", 0xA900, False),
        ("pending", 0xA900, False),
    ]
    assert pacs[0].error == "no such SOP Class"
    assert pacs[0].at is not None
    assert pacs[1].at is not None
    assert pacs[1].at - pacs[0].at > timedelta(minutes=50)


def test_a_dead_delivery_is_the_last_line_with_its_reason(kept: PreparedInstances) -> None:
    """G2: it is not hidden."""
    kept.forward(kept.receive(1), State.DEAD, outcome=Outcome.NEVER, status=None, error="was not accepted")
    last = [step for step in steps(kept) if step.name is StepName.PACS][-1]
    assert (last.outcome, last.error, last.done) == ("dead", "was not accepted", False)


def test_an_expected_result_is_a_step_with_its_deadline(kept: PreparedInstances) -> None:
    """Until the result arrives, the timeline names the worker and the deadline."""
    original = kept.receive(1)
    claim = kept.claim_for_worker(kept.delivery(original, Route.WORKERS))
    kept.settle(claim, Route.WORKERS, State.DELIVERED)
    [owed] = [step for step in steps(kept) if step.name is StepName.RESULT]
    assert (owed.outcome, owed.by, owed.done) == ("owed", claim.destination, False)
    assert owed.at is not None


def test_an_unmatched_result_has_its_own_timeline(kept: PreparedInstances) -> None:
    """Unmatched results are not hidden."""
    kept.result(2, source=99, worker="APP01")
    [timeline] = timelines(kept)
    assert [step.name for step in timeline.steps] == [StepName.RESULT, StepName.RESULT_AT_PACS]
    assert timeline.steps[0].outcome == "unmatched"
