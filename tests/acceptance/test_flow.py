"""The whole flow with real worker applications while peers and processes fail."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.launcher import Process, Processes
from support.peers import Peer, peer
from support.synthetic_instances import MR, PATIENT, Instance, new_uid, study_of
from support.waiting import wait_until

from gateway.database.tables import destinations, selected_deliveries
from gateway.database.tables.selected_deliveries import Selection
from gateway.domain.delivery import State
from gateway.domain.routing import Route

FORWARDER = {
    "backoff_base_seconds": 0.3,
    "backoff_max_seconds": 1,
    "probe_interval_seconds": 0.5,
    "worker_timeout_seconds": 3,
    "max_redispatch": 2,
}
AT_ONCE_SECONDS = 4.0


class Stack:
    """An edge with all its actors, the workers APP01 and APP02, and a PACS."""

    def __init__(self, edge: EdgeSetup, pacs: Peer) -> None:
        self.edge = edge
        self.pacs = pacs
        self.actors: dict[str, Process] = {}

    def start_actors(self, queue: str) -> None:
        """Start the actor process of that queue."""
        [self.actors[queue]] = self.edge.actors(queue)

    def worker(self, number: int, **environment: str) -> Process:
        """APP01 or APP02, listening."""
        settings = self.edge.configuration.forwarder.workers[number - 1]
        process = self.edge.start(
            "python",
            "-m",
            "worker_app",
            WORKER_AE_TITLE=settings.ae_title,
            WORKER_BIND_ADDRESS="127.0.0.1",
            WORKER_PORT=str(settings.port),
            GATEWAY_HOST="127.0.0.1",
            GATEWAY_PORT=str(self.edge.configuration.edge.port),
            GATEWAY_AE_TITLE="MINI_EDGE",
            **environment,
        )
        process.wait_for_port(settings.port, 30)
        return process

    def results(self) -> dict[str, str]:
        """Return the SOP Instance UID of the first result of each original that has one."""
        rows = self.edge.rows(
            "SELECT o.sop_instance_uid, min(r.sop_instance_uid) FROM result_sources s"
            " JOIN instances o ON o.id = s.source_instance_id JOIN instances r ON r.id = s.result_instance_id"
            " GROUP BY 1"
        )
        return {row[0]: row[1] for row in rows}

    def wait_for_results(self, instances: list[Instance], timeout: float = 40) -> None:
        """Wait until the PACS has a result of each."""

        def look() -> bool:
            results, there = self.results(), set(self.pacs.uids())
            return all(results.get(instance.sop_instance_uid) in there for instance in instances)

        wait_until(look, timeout, "a result of each at the PACS")


@pytest.fixture
def stack(make_edge: MakeEdge) -> Iterator[Stack]:
    """Everything but the workers runs."""
    edge = make_edge()
    workers = [worker.model_dump() for worker in edge.configuration.forwarder.workers[:2]]
    edge = make_edge({"forwarder": {**FORWARDER, "orthanc": _orthanc(edge), "workers": workers}})
    with ExitStack() as exits:
        pacs = exits.enter_context(peer(edge.configuration.forwarder.orthanc.port))
        stack = Stack(edge, pacs)
        edge.serve()
        for queue in ("pacs", "workers", "sweep"):
            stack.start_actors(queue)
        yield stack
        edge.kill()


def _orthanc(edge: EdgeSetup) -> dict[str, object]:
    return edge.configuration.forwarder.orthanc.model_dump()


@pytest.mark.guarantee("G5")
@pytest.mark.parametrize("how", ["off", "slow", "fails", "silent"])
def test_a_bad_worker_delays_neither_the_pacs_nor_the_results(stack: Stack, how: str) -> None:
    """G5: the PACS gets every original at once; each result comes later, or from another worker."""
    with ExitStack() as exits:
        if how == "slow":
            stack.worker(1, WORKER_DELAY_SECONDS="5")
        elif how in {"fails", "silent"}:
            bad = exits.enter_context(peer(stack.edge.configuration.forwarder.workers[0].port))
            bad.answer = lambda _: 0xC000 if how == "fails" else 0
        stack.worker(2)
        instances = [Instance(payload=bytes([number, 0])) for number in range(6)]
        assert stack.edge.send(*instances) == [0] * 6
        stack.pacs.wait_for(*(instance.sop_instance_uid for instance in instances), timeout=AT_ONCE_SECONDS)
        stack.wait_for_results(instances)
        if how == "silent":
            assert stack.edge.one("SELECT count(*) FROM expected_results WHERE state = 'timed_out'") >= 1
            assert all(bad.count(instance.sop_instance_uid) <= 1 for instance in instances)
        stack.edge.kill()


@pytest.mark.guarantee("G2")
@pytest.mark.guarantee("G5")
def test_a_pacs_that_is_off_under_load_only_delays_deliveries(stack: Stack) -> None:
    """G2: everything is accepted and shown as waiting; when it is back, all arrive after one attempt each."""
    stack.worker(1)
    stack.worker(2)
    stack.pacs.off()
    instances: list[Instance] = []
    until = time.monotonic() + 8

    def load() -> None:
        while time.monotonic() < until:
            some = study_of(5)
            assert stack.edge.send(*some) == [0] * 5
            instances.extend(some)
            threading.Event().wait(0.25)  # the rate of the load, not a wait for anything

    senders = [threading.Thread(target=load) for _ in range(2)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(60)
    with stack.edge.database.statement() as session:
        [pacs] = [state for state in destinations.states(session) if state.route is Route.PACS]
        waiting = selected_deliveries.find(session, Selection(route=Route.PACS))
    assert not pacs.is_open_for_work
    assert "connect" in str(pacs.reason)
    assert len(waiting) >= len(instances) >= 50
    assert {(row.state, row.attempts) for row in waiting} == {(State.PENDING, 0)}
    stack.pacs.on()
    stack.pacs.wait_for(*(instance.sop_instance_uid for instance in instances), timeout=40)
    for instance in instances:
        assert stack.edge.wait_state(instance, "delivered")["attempts"] == 1
        assert stack.pacs.count(instance.sop_instance_uid) == 1


@pytest.mark.guarantee("G6")
def test_a_restart_of_every_process_under_load_sends_nothing_twice(stack: Stack) -> None:
    """SIGTERM and a start of each process in turn: every delivery has one attempt."""
    stack.worker(1)
    stack.worker(2)
    instances: list[Instance] = []

    def send() -> None:
        some = study_of(8)
        statuses = stack.edge.send(*some)
        assert statuses == [0] * 8
        instances.extend(some)

    send()
    stack.edge.scp.stop()
    stack.edge.serve()
    for queue in ("pacs", "workers", "sweep"):
        send()
        assert stack.actors[queue].stop() == 0
        stack.start_actors(queue)
    send()
    stack.wait_for_results(instances)
    rows = stack.edge.rows(
        "SELECT a.delivery_id, count(*) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id"
        " GROUP BY 1 HAVING count(*) > 1"
    )
    assert rows == []
    assert all(stack.pacs.count(instance.sop_instance_uid) == 1 for instance in instances)
    assert stack.edge.one("SELECT count(*) FROM expected_results") == len(instances)


@pytest.mark.guarantee("G7")
@pytest.mark.guarantee("G8")
def test_garbage_and_strangers_leave_only_log_lines(stack: Stack, processes: Processes) -> None:
    """G7, G8: sent between good instances, they leave no path, row or patient attribute.

    The good ones arrive.
    """
    good = study_of(4)
    bad = Instance(study_instance_uid="../../../escape", sop_class_uid=MR)
    for instance in good:
        assert stack.edge.send(instance) == [0]
        assert stack.edge.send(bad) == [0xC000]
        with stack.edge.association([instance.context]) as association:
            assert association.store(instance.context, new_uid(), [b"\xff" * 999])[0] == 0xC000
    stack.pacs.wait_for(*(instance.sop_instance_uid for instance in good))
    assert stack.edge.one("SELECT count(*) FROM instances") == 4
    assert len(stack.edge.files(partial=True)) == 4
    folder = stack.edge.configuration.edge.data_root.parent
    assert not list(folder.parent.rglob("*escape*"))
    log = stack.edge.configuration.edge.log_path.read_text()
    assert PATIENT not in log
    assert PATIENT not in processes.report()
