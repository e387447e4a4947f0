"""A delivery to a worker.

The next worker, the limit of expected results for each, and who is asked after a timeout.
"""

from collections.abc import Iterator

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.forwarding import LONG, QUICK, Forwarding, forwarding, workers_of
from support.peers import Peer
from support.synthetic_instances import Instance, study_of

from gateway.database.tables import deliveries as rows
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.forward.deliver import forward_to_worker
from gateway.sweep.expire import expire_one


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge that retries quickly."""
    return make_edge({"forwarder": QUICK})


@pytest.fixture
def core(edge: EdgeSetup) -> Iterator[Forwarding]:
    """Yield the core, in this process."""
    with forwarding(edge) as core:
        yield core


def chosen(core: Forwarding, instances: list[Instance]) -> list[str]:
    """Return the worker that each delivery was sent to, in this order."""
    workers = []
    for instance in instances:
        forward_to_worker(core.context, core.owed(instance, Route.WORKERS))
        workers.append(core.edge.delivery(instance, "workers")["destination"])
    return workers


def test_workers_take_turns_exactly(core: Forwarding, workers: dict[str, Peer]) -> None:
    """Twenty instances over five workers, four each, in order; two processes share the turn."""
    turns = chosen(core, study_of(10))
    other = core.actor()
    instances = study_of(10)
    for instance in instances:
        forward_to_worker(other, core.owed(instance, Route.WORKERS))
    other.associations.close()
    assert turns[:5] * 2 == turns
    assert {name: len(worker.taken) for name, worker in workers.items()} == dict.fromkeys(workers, 4)


def test_a_worker_has_at_most_its_limit_of_expected_results(make_edge: MakeEdge) -> None:
    """The limit is two; the eleventh instance waits, with a reason, and a result wakes it."""
    edge = make_edge({"forwarder": {**QUICK, "worker_max_outstanding": 2}})
    with forwarding(edge) as core, workers_of(core):
        chosen(core, study_of(10))
        assert edge.one("SELECT dramatiq.room('workers', 5)") == 0
        instance = Instance()
        delivery = core.owed(instance, Route.WORKERS)
        assert forward_to_worker(core.context, delivery) is None
        row = edge.delivery(instance, "workers")
        assert (row["state"], row["attempts"], row["last_error"]) == ("pending", 0, "no worker is free")
        edge.run("UPDATE expected_results SET state = 'arrived' WHERE worker = 'APP03'")
        core.due()
        assert forward_to_worker(core.context, delivery) is Outcome.DELIVERED
        assert edge.delivery(instance, "workers")["destination"] == "APP03"


def test_affinity_keeps_a_study_on_one_worker(make_edge: MakeEdge) -> None:
    """`study`: one worker gets the whole series; another study goes to the next worker."""
    edge = make_edge({"forwarder": {**QUICK, "worker_affinity": "study", "worker_max_outstanding": 100}})
    with forwarding(edge) as core, workers_of(core):
        first, second = chosen(core, study_of(6)), chosen(core, study_of(6))
        assert len(set(first)) == len(set(second)) == 1
        assert first[0] != second[0]


def test_an_overdue_result_is_asked_of_another_worker_then_given_up(
    core: Forwarding, workers: dict[str, Peer]
) -> None:
    """`max_redispatch` (2) times, so three workers; then it is timed out, and the delivery says why."""
    instance = Instance()
    delivery = core.owed(instance, Route.WORKERS)
    asked = []
    for _ in range(3):
        assert forward_to_worker(core.context, delivery) is Outcome.DELIVERED
        asked.append(core.edge.delivery(instance, "workers")["destination"])
        [expectation] = core.overdue()
        expire_one(core.edge.configuration, core.edge.database, core.context.wakeup, expectation)
    assert len(set(asked)) == 3
    assert core.edge.delivery(instance, "workers")["state"] == "delivered"
    assert core.edge.rows("SELECT DISTINCT state::text FROM expected_results") == [("timed_out",)]
    assert forward_to_worker(core.context, delivery) is None
    assert sum(worker.count(instance.sop_instance_uid) for worker in workers.values()) == 3


def test_an_unreachable_worker_is_skipped(core: Forwarding, workers: dict[str, Peer]) -> None:
    """G5: its breaker opens, and the instance goes to another worker without counting an attempt."""
    workers["APP01"].off()
    instance = Instance()
    delivery = core.owed(instance, Route.WORKERS)
    outcomes = [forward_to_worker(core.context, delivery) for _ in range(2)]
    assert outcomes == [Outcome.AWAY, Outcome.DELIVERED]
    assert core.edge.delivery(instance, "workers")["attempts"] == 1
    assert "APP01" not in chosen(core, study_of(8))


def test_a_delivery_waits_while_no_worker_is_up(core: Forwarding) -> None:
    """Pending with the reason; no attempt is counted, and no message runs."""
    instance = Instance()
    delivery = core.owed(instance, Route.WORKERS)
    for _ in range(5):
        assert forward_to_worker(core.context, delivery) is Outcome.AWAY
    assert forward_to_worker(core.context, delivery) is None
    row = core.edge.delivery(instance, "workers")
    assert (row["state"], row["attempts"]) == ("pending", 0)
    assert core.edge.one("SELECT dramatiq.room('workers', 5)") == 0
    assert core.edge.one("SELECT count(*) FROM expected_results") == 0


def test_a_delivery_of_a_dead_process_goes_to_the_same_worker(
    core: Forwarding, workers: dict[str, Peer]
) -> None:
    """G6: so the worker's result has the same bytes; if its result has come meanwhile, nothing is sent."""
    first, second = study_of(2)
    deliveries = [core.owed(instance, Route.WORKERS) for instance in (first, second)]
    dying = core.actor()
    for delivery in deliveries:
        with core.edge.database.transaction() as session:
            rows.claim_for_worker(
                session, delivery, consumer=4711, lease=LONG, result_wait=LONG, by_study=False, wait=LONG
            )
    dying.associations.close()
    core.edge.run(
        "UPDATE expected_results SET state = 'arrived' WHERE delivery_id = %(id)s", id=deliveries[1]
    )
    before = core.edge.delivery(first, "workers")["destination"]
    assert forward_to_worker(core.context, deliveries[0]) is Outcome.DELIVERED
    assert core.edge.delivery(first, "workers")["destination"] == before
    assert forward_to_worker(core.context, deliveries[1]) is None
    assert core.edge.delivery(second, "workers")["state"] == "delivered"
    assert sum(len(worker.taken) for worker in workers.values()) == 1
    assert core.edge.one("SELECT count(*) FROM expected_results") == 2
