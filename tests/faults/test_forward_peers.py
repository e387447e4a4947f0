"""Peers that refuse, reject, abort, hang or answer late, in front of real actors."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.forwarding import Forwarding, forwarding, workers_of
from support.peers import Peer, after, peer
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until

from gateway.dicom.policy import LOCAL_LIMIT_EXCEEDED

pytestmark = pytest.mark.guarantee("G2")

QUICK = {
    "backoff_base_seconds": 0.1,
    "backoff_max_seconds": 0.3,
    "probe_interval_seconds": 0.5,
    "max_retries": 2,
    "connect_timeout_seconds": 2,
    "worker_timeout_seconds": 60,
}


class Setting:
    """An edge in the mode pacs_only, its actors, and the PACS."""

    def __init__(self, edge: EdgeSetup, core: Forwarding, pacs: Peer) -> None:
        self.edge = edge
        self.core = core
        self.pacs = pacs

    def breaker(self) -> str:
        """Return the state of the PACS's breaker."""
        return str(self.edge.one("SELECT breaker::text FROM destinations WHERE ae_title = 'ORTHANC'"))

    def receive(self, *instances: Instance) -> None:
        """Store the instances with their deliveries, and wake the queue."""
        for instance in instances:
            self.core.receive(instance)
        self.core.context.wakeup.wake("pacs")


@pytest.fixture
def setting(make_edge: MakeEdge) -> Iterator[Setting]:
    """Yield the setting, with actors and PACS running."""
    orthanc = {"host": "127.0.0.1", "ae_title": "ORTHANC", "timeout_s": 2}
    edge = make_edge()
    port = edge.configuration.forwarder.orthanc.port
    edge = make_edge({"forwarder": {**QUICK, "mode": "pacs_only", "orthanc": {**orthanc, "port": port}}})
    with forwarding(edge) as core, peer(port) as pacs:
        edge.actors("pacs")
        yield Setting(edge, core, pacs)
        edge.kill()


@pytest.mark.parametrize("status", [0xC000, 0x0110, 0xA900])
def test_a_refused_instance_is_dead_after_its_retries_and_blocks_no_other(
    setting: Setting, status: int
) -> None:
    """One attempt and `max_retries` more, then dead with the reason; other instances arrive meanwhile."""
    bad, *good = study_of(6)
    setting.pacs.answer = lambda request: status if request.sop_instance_uid == bad.sop_instance_uid else 0
    setting.receive(bad, *good)
    setting.pacs.wait_for(*(instance.sop_instance_uid for instance in good))
    row = setting.edge.wait_state(bad, "dead")
    assert (row["attempts"], row["last_status"]) == (3, status)
    assert "gave up after 3 attempts" in row["last_error"]
    assert setting.pacs.count(bad.sop_instance_uid) == 3
    assert setting.breaker() == "closed"


def test_out_of_resources_is_retried_beyond_max_retries(setting: Setting) -> None:
    """0xA700 is limited by hours, not by attempts; the breaker's probe is a C-STORE and closes it."""
    instances = study_of(6)
    setting.pacs.answer = lambda _: 0xA700
    setting.receive(*instances)
    wait_until(lambda: setting.breaker() == "open", 10, "the breaker to open")
    tried = len(setting.pacs.taken)
    wait_until(lambda: len(setting.pacs.taken) >= tried + 3, 10, "three probes by C-STORE")
    assert setting.breaker() == "open"
    setting.pacs.answer = lambda _: 0
    setting.pacs.wait_for(*(instance.sop_instance_uid for instance in instances))
    assert setting.breaker() == "closed"
    for instance in instances:
        setting.edge.wait_state(instance, "delivered")


@pytest.mark.parametrize("how", ["off", "rejects"])
def test_an_unreachable_pacs_counts_no_attempts(setting: Setting, how: str) -> None:
    """The breaker probes it at intervals; when it is back, every instance arrives once, after one attempt."""
    if how == "off":
        setting.pacs.off()
    else:
        setting.pacs.rejection = LOCAL_LIMIT_EXCEEDED
    instances = study_of(10)
    setting.receive(*instances)
    wait_until(lambda: setting.breaker() == "open", 10, "the breaker to open")
    setting.edge.wait_log(outcome="probe_failed")
    before = setting.pacs.associations
    rows = [setting.edge.delivery(instance) for instance in instances]
    assert {(row["state"], row["attempts"]) for row in rows} <= {("pending", 0), ("in_flight", 0)}
    if how == "off":
        setting.pacs.on()
    else:
        assert before < 15
        setting.pacs.rejection = None
    setting.pacs.wait_for(*(instance.sop_instance_uid for instance in instances))
    assert all(setting.edge.wait_state(instance, "delivered")["attempts"] == 1 for instance in instances)
    assert len(setting.pacs.taken) == 10


def test_an_instance_at_which_the_pacs_aborts_does_not_block_others(setting: Setting) -> None:
    """It is sent after the others, and is dead in the end, with the reason."""
    bad, *good = study_of(12)
    setting.pacs.abort_in.add(bad.sop_instance_uid)
    setting.receive(bad, *good)
    setting.pacs.wait_for(*(instance.sop_instance_uid for instance in good))
    assert setting.edge.wait_state(bad, "dead", timeout=30)["attempts"] == 3
    assert setting.breaker() == "closed"
    for instance in good:
        setting.edge.wait_state(instance, "delivered")


def test_a_hanging_pacs_times_out_and_gets_the_instance_later(setting: Setting) -> None:
    """The association is not used again, so its late answer is not taken for another instance's."""
    go_on = threading.Event()
    setting.pacs.answer = after(go_on)
    instances = study_of(5)
    setting.receive(*instances)
    try:
        wait_until(lambda: setting.breaker() == "open", 20, "the breaker to open")
    finally:
        go_on.set()
    for instance in instances:
        row = setting.edge.wait_state(instance, "delivered", timeout=30)
        assert row["attempts"] <= 3
    outcomes = {row[0] for row in setting.edge.rows("SELECT outcome FROM attempts")}
    assert outcomes == {"broken", "delivered"}


@pytest.mark.guarantee("G5")
def test_hanging_workers_do_not_delay_the_pacs(make_edge: MakeEdge) -> None:
    """Every thread of the workers' actors is blocked; other processes send the originals."""
    edge = make_edge({"forwarder": {**QUICK, "worker_max_outstanding": 1}})
    go_on = threading.Event()
    with forwarding(edge) as core, workers_of(core) as workers, ExitStack() as stack:
        pacs = stack.enter_context(peer(edge.configuration.forwarder.orthanc.port))
        for worker in workers.values():
            worker.answer = after(go_on)
        edge.actors("pacs", "workers")
        try:
            instances = study_of(20)
            for instance in instances:
                core.receive(instance)
            core.context.wakeup.wake("workers")
            in_flight = "SELECT count(*) FROM deliveries WHERE route = 'workers' AND state = 'in_flight'"
            wait_until(lambda: edge.one(in_flight) >= 4, 10, "the workers' actors to be held")
            core.context.wakeup.wake("pacs")
            pacs.wait_for(*(instance.sop_instance_uid for instance in instances), timeout=30)
            assert (
                edge.one("SELECT count(*) FROM deliveries WHERE route = 'workers' AND state = 'delivered'")
                == 0
            )
        finally:
            go_on.set()
            edge.kill()
