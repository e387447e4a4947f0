"""Studies by time, sender and state: each on one page, newest first."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from support.prepared_instances import PreparedInstances

from gateway.database.tables import study_search
from gateway.database.tables.study_search import WantedStudies
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route, Target

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
STUDIES = [1, 2, 1, 3, 4, 2, 5, 6, 5, 7, 1]


def filled(kept: PreparedInstances) -> None:
    """Receive instances of seven studies, a second apart, from CT1 and, of even studies, from MR1."""
    for number, study in enumerate(STUDIES, 1):
        instance = kept.receive(number, study=f"1.2.{study}", sender="MR1" if study % 2 == 0 else "CT1")
        if study in {3, 6}:
            kept.forward(instance, State.DEAD, outcome=Outcome.NEVER, status=0x0122, error="x")
    kept.run(
        "UPDATE instances SET received_at = timestamptz '2026-01-01 00:00:00+00' + id * interval '1 s'"
        " - (SELECT min(id) FROM instances) * interval '1 s'"
    )


def pages(kept: PreparedInstances, wanted: WantedStudies, last: int) -> list[str]:
    """Return the last components of the studies of all pages."""
    found: list[str] = []
    after = None
    while True:
        with kept.database.transaction() as session:
            page = study_search.find(session, wanted, last=last, after=after)
        found += [uid.rpartition(".")[2] for uid in page.study_instance_uids]
        after = page.following
        if after is None:
            return found


@pytest.mark.parametrize("seconds", [-1.0, 5.0])
def test_every_study_is_on_one_page_newest_first(
    kept: PreparedInstances, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Also if the instances of a study came alternately, and if each page ends because time is over."""
    monkeypatch.setattr(study_search, "LOOK_SECONDS", seconds)
    filled(kept)
    late = WantedStudies(begin=FIRST + timedelta(seconds=3), until=FIRST + timedelta(seconds=8))
    for step, last in itertools.product((1, 2, 5, 2000), (1, 2, 3, 7)):
        monkeypatch.setattr(study_search, "FIRST_STEP", step)
        monkeypatch.setattr(study_search, "STEP", step)
        assert pages(kept, WantedStudies(), last) == ["1", "7", "5", "6", "2", "4", "3"]
        assert pages(kept, WantedStudies(sender="MR1"), last) == ["6", "2", "4"]
        assert pages(kept, late, last) == ["5", "6", "2", "4", "3"]
        assert pages(kept, WantedStudies(sender="NOBODY"), last) == []


@pytest.mark.parametrize("few", [0, 3000])
@pytest.mark.parametrize("last", [1, 5])
def test_studies_are_found_by_the_state_of_a_delivery(
    kept: PreparedInstances, monkeypatch: pytest.MonkeyPatch, few: int, last: int
) -> None:
    """By a dead, a cancelled or a waiting one, whether few or many are; with a sender, too."""
    monkeypatch.setattr(study_search, "FEW", few)
    filled(kept)
    assert pages(kept, WantedStudies(states=(State.DEAD,)), last) == ["6", "3"]
    assert pages(kept, WantedStudies(states=(State.DEAD,), sender="CT1"), last) == ["3"]
    assert pages(kept, WantedStudies(states=study_search.WAITING), last) == [
        "1",
        "7",
        "5",
        "6",
        "2",
        "4",
        "3",
    ]
    assert pages(kept, WantedStudies(states=(State.CANCELLED,)), last) == []


def test_a_line_counts_originals_and_results_by_target_and_what_workers_owe(kept: PreparedInstances) -> None:
    """A delivery that was answered by its second worker counts once, as answered."""
    first = kept.receive(1)
    kept.forward(first)
    for number in (1, 2):
        claim = kept.claim_for_worker(kept.delivery(first if number == 1 else kept.receive(2), Route.WORKERS))
        kept.settle(claim, Route.WORKERS, State.DELIVERED)
    kept.run(
        "UPDATE expected_results SET state = 'timed_out' WHERE instance_id = (SELECT min(id) FROM instances)"
    )
    kept.run(
        "INSERT INTO expected_results (delivery_id, instance_id, worker, claim_id, state, due_at, arrived_at)"
        " SELECT delivery_id, instance_id, 'APP02', claim_id, 'arrived', due_at, now() FROM expected_results"
        " WHERE state = 'timed_out'"
    )
    with kept.database.transaction() as session:
        [line] = study_search.lines(session, ["1.2.3", "1.9.9"])
    pacs, workers = Target(Route.PACS, "ORTHANC"), Target(Route.WORKERS, "default")
    assert line.originals == {
        pacs: {State.DELIVERED: 1, State.PENDING: 1},
        workers: {State.DELIVERED: 2},
    }
    assert line.results == {}
    assert line.answers == {"answered": 1, "owed": 1}


def test_a_uid_of_an_instance_or_a_series_leads_to_its_study(kept: PreparedInstances) -> None:
    """The last senders are offered as a filter."""
    filled(kept)
    with kept.database.transaction() as session:
        assert study_search.studies_of(session, "1.2.6.8") == ["1.2.6"]
        assert study_search.studies_of(session, "1.2.5.0") == ["1.2.5"]
        assert study_search.studies_of(session, "1.2.99") == []
        assert study_search.senders(session) == ["CT1", "MR1"]
