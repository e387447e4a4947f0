"""Results with the bytes or the SOP Instance UID of a kept instance: none is lost, and no loop begins."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, forwarding, workers_of
from support.synthetic_instances import Instance, result_of, study_of

from gateway.database.tables.instances import ReceptionVerdict
from gateway.database.tables.timeline import of_study
from gateway.domain.instance import Kind
from gateway.domain.matching import Correlation
from gateway.domain.routing import Origin
from gateway.domain.timeline import InstanceTimeline, Step, StepName
from gateway.forward.deliver import forward_to_worker
from gateway.sweep.expire import expire_one


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process; all workers are on, and only APP01 is asked."""
    with forwarding(make_edge()) as core, workers_of(core):
        core.edge.run("UPDATE destinations SET paused = true WHERE ae_title <> 'APP01'")
        yield core


def ask(core: Forwarding, instance: Instance, version: int = 0) -> None:
    """Send that version of the instance to APP01, whose result is expected then."""
    core.receive(instance)
    [(delivery_id,)] = core.edge.rows(
        "SELECT d.id FROM deliveries d JOIN instances i ON i.id = d.instance_id WHERE d.route = 'workers'"
        " AND i.sop_instance_uid = %(uid)s ORDER BY i.id LIMIT 1 OFFSET %(version)s",
        uid=instance.sop_instance_uid,
        version=version,
    )
    forward_to_worker(core.context, delivery_id)


def expectations(core: Forwarding) -> list[str]:
    """Return the states of the expected results, in that order."""
    return [row[0] for row in core.edge.rows("SELECT state::text FROM expected_results ORDER BY id")]


def routes(core: Forwarding) -> list[tuple[str, str, int]]:
    """Return the kind of each instance with the routes of its deliveries."""
    return core.edge.rows(
        "SELECT i.kind::text, d.route::text, count(*)::integer FROM deliveries d"
        " JOIN instances i ON i.id = d.instance_id GROUP BY 1, 2 ORDER BY 1, 2"
    )


def timelines(core: Forwarding, study: str) -> list[InstanceTimeline]:
    """Return what `status --study` shows."""
    with core.edge.database.transaction() as session:
        return of_study(session, study)


def results(timeline: InstanceTimeline) -> list[Step]:
    """Return the steps that are results."""
    return [step for step in timeline.steps if step.name is StepName.RESULT]


def deliver(core: Forwarding, *, ago: str = "0 s") -> None:
    """Set all deliveries to delivered that long ago; only the rows change."""
    core.edge.run(
        "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), lease_until = now()"
        " WHERE state <> 'delivered'"
    )
    core.edge.run(
        "UPDATE deliveries SET state = 'delivered', claim_id = NULL, lease_until = NULL,"
        " settled_at = now() - %(ago)s::interval",
        ago=ago,
    )


def test_returning_the_bytes_of_the_source_counts_as_the_result(core: Forwarding) -> None:
    """The original and its deliveries stay as they are; nothing new is forwarded."""
    instance = Instance()
    ask(core, instance)
    before = core.edge.delivery(instance)
    kept, correlated = core.receive(instance, worker="APP01")
    assert correlated is not None
    assert (kept.verdict, kept.kind, correlated.outcome) == (
        ReceptionVerdict.EQUALS_SOURCE,
        Kind.ORIGINAL,
        "equals_source",
    )
    assert expectations(core) == ["arrived"]
    assert core.edge.delivery(instance) == before
    [timeline] = timelines(core, instance.study_instance_uid)
    assert (timeline.kind, timeline.sop_instance_uid) == (Kind.ORIGINAL, instance.sop_instance_uid)
    assert timeline.is_done(StepName.RECEIVED)
    [step] = results(timeline)
    assert (step.outcome, step.by, step.done) == ("equals its source", "APP01", True)
    assert core.edge.rows("SELECT correlation, late FROM instances") == [(None, False)]
    assert core.edge.one("SELECT count(*) FROM result_sources") == 0


@pytest.mark.parametrize("ago", ["0 s", "1 day"])
def test_an_unchanged_instance_from_a_worker_is_not_forwarded(core: Forwarding, ago: str) -> None:
    """It goes neither to the PACS nor to a worker, for any window; a cancelled delivery stays cancelled."""
    instance = Instance()
    ask(core, instance)
    deliver(core, ago=ago)
    core.receive(instance, worker="APP01")
    assert {state for (state,) in core.edge.rows("SELECT state::text FROM deliveries")} == {"delivered"}
    core.edge.run("UPDATE deliveries SET state = 'pending', next_attempt_at = now() WHERE route = 'pacs'")
    core.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")
    core.receive(instance, worker="APP01")
    assert core.edge.delivery(instance)["state"] == "cancelled"


def test_a_late_result_that_equals_its_source_cancels_the_unsent_redispatch(core: Forwarding) -> None:
    """Like any late result."""
    instance = Instance()
    ask(core, instance)
    for expectation in core.overdue():
        expire_one(core.edge.configuration, core.edge.database, core.context.wakeup, expectation)
    _, correlated = core.receive(instance, worker="APP01")
    assert correlated is not None
    assert correlated.late
    assert expectations(core) == ["late"]
    assert core.edge.delivery(instance, "workers")["state"] == "delivered"
    [timeline] = timelines(core, instance.study_instance_uid)
    assert [step.outcome for step in results(timeline)] == ["equals its source, late"]


def test_a_source_that_is_sent_again_after_its_result_equalled_it(core: Forwarding) -> None:
    """It is still the original, so it is forwarded to PACS and workers after the window."""
    instance = Instance()
    ask(core, instance)
    core.receive(instance, worker="APP01")
    deliver(core, ago="31 s")
    kept, correlated = core.receive(instance)
    assert (kept.verdict, correlated) == (ReceptionVerdict.OWED_AGAIN, None)
    assert routes(core) == [("original", "pacs", 1), ("original", "workers", 1)]
    assert len(timelines(core, instance.study_instance_uid)) == 1


def test_the_pacs_gets_an_equal_result_in_workers_only_mode(make_edge: MakeEdge) -> None:
    """`forwarder.mode: workers_only`: a result is delivered to the PACS in every mode."""
    with forwarding(make_edge({"forwarder": {"mode": "workers_only"}})) as core, workers_of(core):
        instance = Instance()
        core.receive(instance)
        core.receive(instance, worker="APP01")
        assert core.edge.delivery(instance)["state"] == "pending"
        assert routes(core) == [("original", "pacs", 1), ("original", "workers", 1)]


def test_a_result_under_the_uid_of_its_source_is_another_version(core: Forwarding) -> None:
    """It is its worker's result, linked to its source, delivered to the PACS and to no worker."""
    instance = Instance()
    ask(core, instance)
    result = replace(result_of(study=instance.study_instance_uid), sop_instance_uid=instance.sop_instance_uid)
    kept, correlated = core.receive(result, worker="APP01")
    assert correlated is not None
    assert (kept.verdict, kept.kind) == (ReceptionVerdict.CONFLICT, Kind.RESULT)
    assert correlated.match.correlation is Correlation.REFERENCES
    assert expectations(core) == ["arrived"]
    assert routes(core) == [("original", "pacs", 1), ("original", "workers", 1), ("result", "pacs", 1)]
    [timeline] = timelines(core, instance.study_instance_uid)
    [step] = results(timeline)
    assert step.outcome == "references, a version of a UID that was received before"


def test_each_version_has_its_own_result(core: Forwarding) -> None:
    """Two versions of one UID, sent to the worker one after the other."""
    first = Instance()
    second = replace(first, payload=b"\x05\x05")
    made = []
    for version, instance in enumerate((first, second)):
        ask(core, instance, version)
        made.append(core.receive(result_of(instance, number=version), worker="APP01")[0].instance_id)
    assert expectations(core) == ["arrived", "arrived"]
    assert core.edge.rows(
        "SELECT s.result_instance_id, encode(i.sha256, 'hex') FROM result_sources s"
        " JOIN instances i ON i.id = s.source_instance_id ORDER BY 1"
    ) == [(made[0], first.digest), (made[1], second.digest)]
    assert [len(results(one)) for one in timelines(core, first.study_instance_uid)] == [1, 1]


def test_a_version_that_the_worker_was_not_sent_has_no_result(core: Forwarding) -> None:
    """It was received before the result, and waits for its worker."""
    first = Instance()
    second = replace(first, payload=b"\x05\x05")
    ask(core, first)
    core.receive(second)
    core.receive(result_of(first), worker="APP01")
    core.receive(result_of(first, number=1), worker="APP01")  # a second result of the same source
    shown = timelines(core, first.study_instance_uid)
    assert [len(results(one)) for one in shown] == [2, 0]


def test_results_of_two_versions_are_matched_in_their_order(core: Forwarding) -> None:
    """The first result belongs to the version that was sent first."""
    first = Instance()
    second = replace(first, payload=b"\x05\x05")
    ask(core, first)
    ask(core, second, 1)
    core.receive(result_of(first), worker="APP01")
    assert expectations(core) == ["arrived", "owed"]
    core.receive(result_of(first, number=1), worker="APP01")
    assert expectations(core) == ["arrived", "arrived"]


@pytest.mark.parametrize("origin", [Origin.SENDER, Origin.ARCHIVE, Origin.PERHAPS_ARCHIVE])
@pytest.mark.parametrize("changed", [False, True], ids=["same bytes", "other bytes"])
def test_a_result_that_comes_back_goes_to_no_worker(
    core: Forwarding,
    origin: Origin,
    changed: bool,  # noqa: FBT001
) -> None:
    """A PACS, or its routing, sends a result under its own title, maybe with changed attributes."""
    [source] = study_of(1)
    ask(core, source)
    result = replace(result_of(source), series_description="MEASURED")
    core.receive(result, worker="APP01")
    again = replace(result, payload=b"\x09\x09") if changed else result
    kept, correlated = core.receive(again, origin=origin)
    assert (kept.kind, correlated) == (Kind.RESULT, None)
    assert kept.verdict is (ReceptionVerdict.CONFLICT if changed else ReceptionVerdict.DUPLICATE)
    assert core.edge.one("SELECT count(*) FROM deliveries WHERE route = 'workers'") == 1


@pytest.mark.parametrize(
    ("origin", "kind"), [(Origin.SENDER, Kind.ORIGINAL), (Origin.PERHAPS_ARCHIVE, Kind.RESULT)]
)
def test_a_corrected_source_is_an_original_though_a_result_has_its_uid(
    core: Forwarding, origin: Origin, kind: Kind
) -> None:
    """It comes from a modality. From the PACS it could not be distinguished from a returning result."""
    source = Instance()
    ask(core, source)
    core.receive(replace(result_of(source), sop_instance_uid=source.sop_instance_uid), worker="APP01")
    kept, _ = core.receive(replace(source, payload=b"\x07\x07"), origin=origin)
    assert kept.kind is kind
