"""A result is linked to its source instances in the transaction that receives it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, ask, forwarding, workers_of
from support.peers import Peer
from support.synthetic_instances import Instance, new_uid, result_of, study_of

from gateway.database.tables.instances import ReceptionVerdict
from gateway.domain.matching import Correlation
from gateway.domain.routing import Route
from gateway.forward.deliver import forward_to_worker
from gateway.sweep.expire import expire_one


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process."""
    with forwarding(make_edge()) as core:
        yield core


@pytest.fixture(autouse=True)
def workers(core: Forwarding) -> Iterator[dict[str, Peer]]:
    """Start every worker."""
    with workers_of(core) as peers:
        yield peers


def expectations(core: Forwarding) -> list[str]:
    """Return the states of the expected results, in that order."""
    return [row[0] for row in core.edge.rows("SELECT state::text FROM expected_results ORDER BY id")]


def expire(core: Forwarding) -> None:
    """Let every deadline pass, and run its message."""
    for expectation in core.overdue():
        expire_one(core.edge.configuration, core.edge.database, core.context.wakeup, expectation)


def test_a_result_is_linked_to_the_instances_it_references(core: Forwarding) -> None:
    """Its worker's expected result has arrived; the result is delivered to the PACS and to no worker."""
    first, second = study_of(2)
    workers = [ask(core, first), ask(core, second)]
    kept, correlated = core.receive(result_of(first), worker=workers[0])
    assert correlated is not None
    assert (correlated.match.correlation, correlated.late) == (Correlation.REFERENCES, False)
    assert expectations(core) == ["arrived", "owed"]
    assert core.edge.rows(
        "SELECT s.worker, i.sop_instance_uid FROM result_sources s"
        " JOIN instances i ON i.id = s.source_instance_id"
    ) == [(workers[0], first.sop_instance_uid)]
    routes = core.edge.rows(
        "SELECT route::text FROM deliveries WHERE instance_id = %(id)s", id=kept.instance_id
    )
    assert routes == [("pacs",)]
    assert core.edge.one("SELECT count(*) FROM dramatiq.queue WHERE queue_name = 'sweep'") == 1


def test_one_result_with_many_sources_is_linked_to_all(core: Forwarding) -> None:
    """A series report answers each source that its worker was sent."""
    core.edge.run("UPDATE destinations SET paused = true WHERE ae_title <> 'APP02'")
    instances = study_of(3)
    for instance in instances:
        ask(core, instance)
    core.receive(result_of(*instances), worker="APP02")
    assert expectations(core) == ["arrived"] * 3
    assert core.edge.one("SELECT count(*) FROM result_sources") == 3


def test_a_result_of_another_worker_does_not_satisfy_an_expectation(core: Forwarding) -> None:
    """It is still linked to its source."""
    instance = Instance()
    asked = ask(core, instance)
    _, correlated = core.receive(result_of(instance), worker="APP05" if asked != "APP05" else "APP04")
    assert correlated is not None
    assert correlated.match.correlation is Correlation.REFERENCES
    assert expectations(core) == ["owed"]


@pytest.mark.parametrize(
    ("owed", "found", "after"),
    [
        (1, Correlation.STUDY, ["arrived"]),
        (2, Correlation.AMBIGUOUS, ["owed", "owed"]),
        (0, Correlation.AMBIGUOUS, []),
    ],
)
def test_a_result_without_references_is_matched_by_its_study(
    core: Forwarding, owed: int, found: Correlation, after: list[str]
) -> None:
    """It satisfies an expectation only if that worker has exactly one in the study."""
    core.edge.run("UPDATE destinations SET paused = true WHERE ae_title <> 'APP01'")
    instances = study_of(2)
    for instance in instances[:owed]:
        ask(core, instance)
    for instance in instances[owed:]:
        core.receive(instance)
    study = instances[0].study_instance_uid
    kept, correlated = core.receive(result_of(study=study), worker="APP01")
    assert correlated is not None
    assert correlated.match.correlation is found
    assert expectations(core) == after
    flag = core.edge.one("SELECT correlation::text FROM instances WHERE id = %(id)s", id=kept.instance_id)
    assert flag == found.value


def test_a_result_in_another_study_may_reference_a_series(core: Forwarding) -> None:
    """Referenced Series without instances: every instance of the series that its worker got is answered."""
    core.edge.run("UPDATE destinations SET paused = true WHERE ae_title <> 'APP01'")
    series = new_uid()
    instances = [replace(instance, series_instance_uid=series) for instance in study_of(2)]
    for instance in instances:
        ask(core, instance)
    result = replace(result_of(study=new_uid()), referenced_series=series)
    _, correlated = core.receive(result, worker="APP01")
    assert correlated is not None
    assert correlated.match.correlation is Correlation.REFERENCES
    assert expectations(core) == ["arrived", "arrived"]


@pytest.mark.parametrize(
    ("owed", "found"), [(1, Correlation.STUDY), (2, Correlation.AMBIGUOUS), (0, Correlation.AMBIGUOUS)]
)
def test_a_result_in_another_study_may_reference_a_study(
    core: Forwarding, owed: int, found: Correlation
) -> None:
    """A reference to the study alone is matched by the study, as for a result of the same study."""
    core.edge.run("UPDATE destinations SET paused = true WHERE ae_title <> 'APP01'")
    instances = study_of(2)
    for instance in instances[:owed]:
        ask(core, instance)
    for instance in instances[owed:]:
        core.receive(instance)
    result = replace(result_of(study=new_uid()), referenced_study=instances[0].study_instance_uid)
    _, correlated = core.receive(result, worker="APP01")
    assert correlated is not None
    assert correlated.match.correlation is found
    assert expectations(core) == (["arrived"] if owed == 1 else ["owed"] * owed)
    assert core.edge.one("SELECT count(*) FROM result_sources") == 2


@pytest.mark.parametrize("what", ["instance", "series", "study"])
def test_a_result_with_unknown_references_is_matched_by_its_study(core: Forwarding, what: str) -> None:
    """The references name purged or unknown instances."""
    instance = Instance()
    worker = ask(core, instance)
    unknown = result_of(study=instance.study_instance_uid)
    if what == "instance":
        unknown = replace(unknown, sources=((instance.sop_class_uid, new_uid()),))
    elif what == "series":
        unknown = replace(unknown, referenced_series=new_uid())
    else:
        unknown = replace(unknown, referenced_study=new_uid())
    _, correlated = core.receive(unknown, worker=worker)
    assert correlated is not None
    assert correlated.match.correlation is Correlation.STUDY
    assert expectations(core) == ["arrived"]


def test_a_referenced_instance_takes_precedence_over_series_and_study(core: Forwarding) -> None:
    """All three are referenced; other instances of the series are not its sources."""
    core.edge.run("UPDATE destinations SET paused = true WHERE ae_title <> 'APP01'")
    first, second = study_of(2)
    ask(core, first)
    ask(core, second)
    result = replace(
        result_of(first),
        referenced_series=first.series_instance_uid,
        referenced_study=first.study_instance_uid,
    )
    core.receive(result, worker="APP01")
    assert expectations(core) == ["arrived", "owed"]


@pytest.mark.parametrize("references", [True, False])
def test_a_result_without_a_match_is_flagged_and_delivered(core: Forwarding, *, references: bool) -> None:
    """Nothing that a worker sends is lost."""
    result = result_of(Instance()) if references else result_of(study=new_uid())
    kept, correlated = core.receive(result, worker="APP01")
    assert correlated is not None
    assert correlated.match.correlation is Correlation.UNMATCHED
    assert kept.verdict is ReceptionVerdict.STORED
    assert core.edge.delivery(result)["state"] == "pending"


def test_a_late_result_is_flagged_and_cancels_the_unsent_redispatch(core: Forwarding) -> None:
    """It is forwarded; no other worker is asked."""
    instance = Instance()
    worker = ask(core, instance)
    expire(core)
    assert core.edge.delivery(instance, "workers")["state"] == "pending"
    kept, correlated = core.receive(result_of(instance), worker=worker)
    assert correlated is not None
    assert correlated.late
    assert expectations(core) == ["late"]
    assert core.edge.one("SELECT late FROM instances WHERE id = %(id)s", id=kept.instance_id)
    delivery = core.edge.delivery(instance, "workers")
    assert delivery["state"] == "delivered"
    assert forward_to_worker(core.context, delivery["id"]) is None


def test_a_late_result_does_not_cancel_a_sent_redispatch(core: Forwarding) -> None:
    """The second worker has the instance, and its result is still expected."""
    instance = Instance()
    worker = ask(core, instance)
    expire(core)
    forward_to_worker(core.context, core.edge.delivery(instance, "workers")["id"])
    core.receive(result_of(instance), worker=worker)
    assert expectations(core) == ["late", "owed"]


def test_no_third_worker_is_asked_after_a_late_result(core: Forwarding) -> None:
    """The first worker's result came late; if the second result is late as well, nothing more is sent."""
    instance = Instance()
    worker = ask(core, instance)
    expire(core)
    forward_to_worker(core.context, core.edge.delivery(instance, "workers")["id"])
    second = core.edge.delivery(instance, "workers")["destination"]
    core.receive(result_of(instance), worker=worker)
    expire(core)
    assert expectations(core) == ["late", "timed_out"]
    delivery = core.edge.delivery(instance, "workers")
    assert (delivery["state"], delivery["redispatches"]) == ("delivered", 1)
    assert not core.edge.log(outcome="timed_out"), "nothing was given up"
    _, correlated = core.receive(result_of(instance, number=1), worker=second)
    assert correlated is not None
    assert correlated.late
    assert expectations(core) == ["late", "late"]


def test_an_earlier_result_does_not_answer_a_resent_delivery(core: Forwarding) -> None:
    """After `deliveries resend` a worker that does not answer is replaced.

    An answer to the first request does not count.
    """
    instance = Instance()
    core.receive(result_of(instance), worker=ask(core, instance))
    core.edge.run(
        "UPDATE deliveries SET state = 'pending', next_attempt_at = now(), owed_since = now()"
        " WHERE route = 'workers'"
    )
    forward_to_worker(core.context, core.edge.delivery(instance, "workers")["id"])
    expire(core)
    assert expectations(core) == ["arrived", "timed_out"]
    assert core.edge.delivery(instance, "workers")["state"] == "pending"


def test_the_same_result_again_answers_a_second_request(core: Forwarding) -> None:
    """G4: a worker that was asked twice sends the same bytes twice.

    Both expectations end, and one delivery is made.
    """
    instance = Instance()
    core.edge.run("UPDATE destinations SET paused = true WHERE ae_title <> 'APP01'")
    result = result_of(instance)
    ask(core, instance)
    core.receive(result, worker="APP01")
    core.edge.run(
        "UPDATE deliveries SET state = 'pending', next_attempt_at = now(), owed_since = now()"
        " WHERE route = 'workers'"
    )
    forward_to_worker(core.context, core.edge.delivery(instance, "workers")["id"])
    assert expectations(core) == ["arrived", "owed"]
    kept, _ = core.receive(result, worker="APP01")
    assert kept.verdict is ReceptionVerdict.DUPLICATE
    assert expectations(core) == ["arrived", "arrived"]


def test_a_result_that_arrives_before_the_c_store_response_counts(
    core: Forwarding, workers: dict[str, Peer]
) -> None:
    """A worker may send its result before its C-STORE response."""
    instance = Instance()
    delivery = core.owed(instance, Route.WORKERS)

    def quick(_: object) -> int:
        core.receive(result_of(instance), worker=core.edge.delivery(instance, "workers")["destination"])
        return 0

    for worker in workers.values():
        worker.answer = quick
    forward_to_worker(core.context, delivery)
    assert expectations(core) == ["arrived"]
    assert core.edge.delivery(instance, "workers")["state"] == "delivered"
