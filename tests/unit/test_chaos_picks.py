"""The order of the chaos run's faults, how their recoveries are measured, and what is sent meanwhile."""

from itertools import islice

from chaos.cargo import Number, count_of, instance, uid
from chaos.conductor import ACTIONS
from chaos.faults import CATALOGUE, EVERY, PACS, RECEIVE, WORKERS, Done, Way, only_workers, picks
from chaos.recovery import latencies, percentile, recoveries, slowest

NOTHING: dict[Way, list[float]] = {way: [] for way in Way}


def test_the_same_seed_gives_the_same_faults() -> None:
    """And another seed another order."""
    first, again, other = (list(islice(picks(seed, gap=2), 200)) for seed in (1, 1, 2))
    assert first == again
    assert [pick.kind for pick in first] != [pick.kind for pick in other]


def test_a_round_has_every_fault_once() -> None:
    """So a run of a few minutes leaves none out."""
    once = list(islice(picks(7, gap=2), len(CATALOGUE)))
    assert sorted(map(str, (pick.kind for pick in once))) == sorted(map(str, CATALOGUE))
    assert all(pick.kind.seconds[0] <= pick.seconds <= pick.kind.seconds[1] for pick in once)


def test_every_action_of_the_catalogue_can_be_done() -> None:
    """No entry without an action, no action without an entry."""
    assert {kind.action for kind in CATALOGUE} == set(ACTIONS)


def test_faults_of_workers_leave_the_way_to_the_pacs_alone() -> None:
    """G5 is measured among these."""
    chosen = [kind for kind in CATALOGUE if only_workers(kind)]
    assert {kind.target for kind in chosen} >= {"app01", "actors-workers", "worker_down", "worker_hang"}
    assert not any(kind.ways & (RECEIVE | PACS) for kind in chosen)


def test_a_recovery_ends_with_the_next_success_of_its_way() -> None:
    """Successes before the fault's end, and those of other ways, do not count."""
    fault = Done("kill pacs", PACS, 10, 10)
    found = recoveries([fault], {**NOTHING, Way.PACS: [9.0, 12.5], Way.RECEIVE: [10.5]})
    assert [(r.fault, r.way, r.seconds) for r in found] == [("kill pacs", Way.PACS, 2.5)]


def test_a_fault_that_another_one_hides_is_measured_with_that() -> None:
    """What is not received cannot be forwarded, whatever the PACS does."""
    hidden, later = Done("kill pacs", PACS, 10, 10), Done("stop edge", RECEIVE, 9, 15)
    found = recoveries([hidden, later], {**NOTHING, Way.PACS: [16.0], Way.RECEIVE: [15.25]})
    assert [(r.fault, r.seconds) for r in found] == [("stop edge", 0.25)]


def test_a_way_that_never_recovers_is_the_slowest() -> None:
    """It is not left out for want of a figure."""
    found = recoveries([Done("kill postgres", EVERY, 1, 1)], {**NOTHING, Way.RECEIVE: [2.0], Way.PACS: [9.0]})
    worst = slowest(found)
    assert worst is not None
    assert (worst.way, worst.seconds) == (Way.WORKERS, None)
    assert len(found) == len(EVERY)


def test_latency_counts_what_came_in_the_stretches_only() -> None:
    """From the sender's Success to the PACS' answer, by digest."""
    acknowledged = {"a": 1.0, "b": 5.0, "c": 6.0, "d": 7.0}
    assert latencies(acknowledged, {"a": 9.0, "b": 5.5, "c": 5.9}, [(4, 7)]) == [0.0, 0.5]
    assert percentile([1, 2, 3, 4], 0.5) == 2
    assert percentile([1, 2, 3, 4], 1) == 4
    assert percentile([], 0.5) == 0


def test_an_instance_is_the_same_for_the_same_number() -> None:
    """Whichever process makes it; another version has the same UID and other bytes."""
    for count in range(40):
        number = Number(1, 2, count)
        assert instance(number) == instance(number)
        assert count_of(uid(number)) == count
        other = instance(Number(1, 2, count, version=1))
        assert other.sop_instance_uid == instance(number).sop_instance_uid
        assert other.digest != instance(number).digest
        assert other.study_instance_uid == instance(number).study_instance_uid


def test_workers_have_faults_of_their_own() -> None:
    """Each way is broken by something."""
    for way in (RECEIVE, PACS, WORKERS):
        assert any(kind.ways == way for kind in CATALOGUE)
