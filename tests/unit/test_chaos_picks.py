"""The chaos run: the order of its faults, the measurement of recoveries, and the instances that it sends."""

from collections import Counter
from itertools import islice

from proof.chaos.fault_runner import ACTIONS, GAP_SECONDS, STRETCH_GAP_SECONDS, STRETCH_SECONDS
from proof.chaos.faults import (
    AMONG_OTHERS,
    CATALOGUE,
    EVERY,
    KINDS,
    OUTAGES,
    PACS,
    RECEIVE,
    WITHOUT_POSTGRES,
    WORKERS,
    Done,
    Kind,
    Way,
    only_workers,
    picks,
    spares_reception,
)
from proof.chaos.recovery import latencies, percentile, recoveries, slowest
from proof.chaos.sent_instances import Number, count_of, instance, uid

NOTHING: dict[Way, list[float]] = {way: [] for way in Way}


def test_the_same_seed_gives_the_same_faults() -> None:
    """Another seed gives another order."""
    first, again, other = (list(islice(picks(seed, gap=2), 200)) for seed in (1, 1, 2))
    assert first == again
    assert [pick.kind for pick in first] != [pick.kind for pick in other]


def test_the_first_round_has_every_fault_once_and_the_important_ones_first() -> None:
    """No fault is repeated before every fault was picked."""
    once = [pick.kind for pick in islice(picks(7, gap=2), len(CATALOGUE))]
    assert Counter(once) == Counter(CATALOGUE)
    assert [kind.weight for kind in once] == sorted((kind.weight for kind in CATALOGUE), reverse=True)


def test_later_rounds_have_each_fault_as_often_as_its_weight() -> None:
    """In any order."""
    size = sum(kind.weight for kind in CATALOGUE)
    later = [pick.kind for pick in islice(picks(7, gap=2), len(CATALOGUE), len(CATALOGUE) + size)]
    assert Counter(later) == {kind: kind.weight for kind in CATALOGUE}
    weights = [kind.weight for kind in later]
    assert weights != sorted(weights, reverse=True)


def test_a_fault_lasts_as_long_as_its_kind_allows() -> None:
    """The random number is between 0 and 1."""
    for pick in islice(picks(3, gap=2), 200):
        assert pick.kind.seconds[0] <= pick.seconds <= pick.kind.seconds[1]
        assert 0 <= pick.dice < 1


def _begun_within(seconds: float, seed: int) -> list[Kind]:
    """Return the kinds of faults that a run begins within so much time, if none is postponed."""
    begun: list[Kind] = []
    now = 0.0
    for pick in picks(seed, gap=GAP_SECONDS, first=AMONG_OTHERS):
        if now > seconds:
            return begun
        begun.append(pick.kind)
        now += pick.gap
    raise AssertionError("they are without end")


def test_two_minutes_reach_every_important_fault() -> None:
    """Whatever the seed; two periods of the two minutes are for faults of workers."""
    important = {kind for kind in CATALOGUE if kind.weight > 1 and not only_workers(kind)}
    assert {kind.name for kind in important} >= {
        "kill edge",
        "stop edge",
        "kill postgres",
        "stop pacs",
        "answers A700 the PACS",
        "answers 0111 the PACS",
        "aborts mid data set the PACS",
        "fill the disk",
    }
    for seed in range(1, 30):
        begun = _begun_within(120 - 2 * STRETCH_SECONDS - 10, seed)
        assert important <= set(begun), seed
        assert len(set(begun)) == min(len(begun), len(AMONG_OTHERS)), seed


def test_the_worker_periods_of_two_minutes_reach_every_fault_of_workers() -> None:
    """The first round leaves them out elsewhere."""
    workers = [kind for kind in CATALOGUE if only_workers(kind)]
    assert {*workers, *AMONG_OTHERS} == set(CATALOGUE)
    for seed in range(1, 30):
        begun = list(islice(picks(seed, gap=STRETCH_GAP_SECONDS, kinds=workers), len(workers)))
        assert {pick.kind for pick in begun} == set(workers)
        assert sum(pick.gap for pick in begun) < 2 * STRETCH_SECONDS + 5, seed


def test_every_action_of_the_catalogue_is_implemented() -> None:
    """No entry lacks an action, and no action lacks an entry."""
    assert {kind.action for kind in KINDS} == set(ACTIONS)


def test_postgresql_does_not_affect_reception() -> None:
    """G1: its absence is no excuse for what a sender notices; only the fault of a receiver is."""
    away = [kind for kind in KINDS if kind.target == "postgres"]
    assert {kind.action for kind in away} >= {"kill", "stop", "take away", "restart"}
    assert not any(kind.ways & RECEIVE for kind in (*away, *OUTAGES))
    assert all(kind.ways == RECEIVE and kind.target == "edge" for kind in WITHOUT_POSTGRES)
    assert not any(spares_reception(kind) for kind in away)


def test_faults_of_workers_do_not_affect_the_pacs() -> None:
    """G5 is measured during these."""
    chosen = [kind for kind in CATALOGUE if only_workers(kind)]
    assert {kind.target for kind in chosen} >= {"app01", "actors-workers", "worker_down", "worker_hang"}
    assert not any(kind.ways & (RECEIVE | PACS) for kind in chosen)


def test_a_recovery_ends_with_the_next_success_of_its_path() -> None:
    """Successes before the end of the fault, and on other paths, do not count."""
    fault = Done("kill pacs", PACS, 10, 10)
    found = recoveries([fault], {**NOTHING, Way.PACS: [9.0, 12.5], Way.RECEIVE: [10.5]})
    assert [(r.fault, r.way, r.seconds) for r in found] == [("kill pacs", Way.PACS, 2.5)]


def test_a_fault_hidden_by_a_longer_one_is_measured_with_it() -> None:
    """An instance that is not received cannot be forwarded, whatever the PACS does."""
    hidden, later = Done("kill pacs", PACS, 10, 10), Done("stop edge", RECEIVE, 9, 15)
    found = recoveries([hidden, later], {**NOTHING, Way.PACS: [16.0], Way.RECEIVE: [15.25]})
    assert [(r.fault, r.seconds) for r in found] == [("stop edge", 0.25)]


def test_a_path_that_never_recovers_is_the_slowest() -> None:
    """It is not left out because it has no figure."""
    found = recoveries([Done("kill postgres", EVERY, 1, 1)], {**NOTHING, Way.RECEIVE: [2.0], Way.PACS: [9.0]})
    worst = slowest(found)
    assert worst is not None
    assert (worst.way, worst.seconds) == (Way.WORKERS, None)
    assert len(found) == len(EVERY)


def test_latency_counts_instances_of_the_worker_periods_only() -> None:
    """From the sender's Success to the PACS' answer, by digest."""
    acknowledged = {"a": 1.0, "b": 5.0, "c": 6.0, "d": 7.0}
    assert latencies(acknowledged, {"a": 9.0, "b": 5.5, "c": 5.9}, [(4, 7)]) == [0.0, 0.5]
    assert percentile([1, 2, 3, 4], 0.5) == 2
    assert percentile([1, 2, 3, 4], 1) == 4
    assert percentile([], 0.5) == 0


def test_an_instance_is_the_same_for_the_same_number() -> None:
    """In any process; another version has the same UID and other bytes."""
    for count in range(40):
        number = Number(1, 2, count)
        assert instance(number) == instance(number)
        assert count_of(uid(number)) == count
        other = instance(Number(1, 2, count, version=1))
        assert other.sop_instance_uid == instance(number).sop_instance_uid
        assert other.digest != instance(number).digest
        assert other.study_instance_uid == instance(number).study_instance_uid


def test_every_path_has_a_fault() -> None:
    """Some fault breaks each path."""
    for way in (RECEIVE, PACS, WORKERS):
        assert any(kind.ways == way for kind in CATALOGUE)
