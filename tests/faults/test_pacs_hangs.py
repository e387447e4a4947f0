"""Instances at which the PACS hangs use one association; the others are sent as usual."""

import json
import threading
from collections.abc import Callable, Iterator

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.forwarding import QUICK, Forwarding, forwarding
from support.peers import ABORT, Peer, peer
from support.synthetic_instances import Instance, new_uid, study_of
from support.waiting import wait_until
from typer.testing import CliRunner

from cli.main import build
from gateway.dicom.policy import StoreRequest
from gateway.domain.outcome import Outcome
from gateway.forward.deliver import forward_to_pacs

pytestmark = pytest.mark.guarantee("G5")

PARKED = "SELECT count(*) FROM deliveries WHERE state = 'pending' AND parked_for = 'ORTHANC'"
PATIENT = {**QUICK, "mode": "pacs_only", "max_retries": 5, "backoff_base_seconds": 1}


def patient(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge with a long timeout for the PACS: longer than the tests wait for other instances."""
    port = make_edge().configuration.forwarder.orthanc.port
    orthanc = {"host": "127.0.0.1", "ae_title": "ORTHANC", "timeout_s": 80, "port": port}
    return make_edge({"forwarder": {**PATIENT, "orthanc": orthanc}})


class Choking:
    """Hangs at some instances until it is released, and counts how many hang at once."""

    def __init__(self, instances: list[Instance], then: int = ABORT) -> None:
        self._bad = {instance.sop_instance_uid for instance in instances}
        self._then = then
        self._lock = threading.Lock()
        self.released = threading.Event()
        self.now = 0
        self.most = 0

    def __call__(self, request: StoreRequest) -> int:
        """Return the status of the PACS; hang first if the instance is one of `bad`."""
        if request.sop_instance_uid not in self._bad:
            return 0
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.released.wait(100)
        with self._lock:
            self.now -= 1
        return self._then


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process."""
    with forwarding(make_edge({"forwarder": PATIENT})) as core:
        yield core


def bad_study(kind: str) -> list[Instance]:
    """Return 24 instances of one study, in one series or in a series each."""
    if kind == "one series":
        return study_of(24)
    study = new_uid()
    return [Instance(study_instance_uid=study, series_instance_uid=new_uid()) for _ in range(24)]


@pytest.mark.parametrize("kind", ["one series", "a series each"])
def test_instances_do_not_wait_for_those_at_which_the_pacs_hangs(make_edge: MakeEdge, kind: str) -> None:
    """24 instances at which the PACS hangs come first, all of a new study.

    The good ones arrive while the PACS hangs at one bad one.
    """
    edge = patient(make_edge)
    bad, good = bad_study(kind), [Instance() for _ in range(12)]
    choking = Choking(bad)
    with forwarding(edge) as core, peer(edge.configuration.forwarder.orthanc.port) as pacs:
        pacs.answer = choking
        edge.actors("pacs", threads=8)
        for instance in (*bad, *good):
            core.receive(instance)
        core.context.wakeup.wake("pacs")
        try:
            pacs.wait_for(*(instance.sop_instance_uid for instance in good), timeout=60)
            assert choking.most == 1
            wait_until(lambda: edge.one(PARKED) == 23, 40, "its siblings to be parked")
            assert edge.one("SELECT count(*) FROM attempts WHERE outcome <> 'delivered'") == 0
        finally:
            choking.released.set()
            edge.kill()


def test_instances_of_a_study_follow_when_a_slow_send_is_answered(make_edge: MakeEdge) -> None:
    """They were postponed because of the slow send; its answer wakes them before their own due time."""
    edge = patient(make_edge)
    study = study_of(24)
    slow = Choking(study[:1], then=0)
    with forwarding(edge) as core, peer(edge.configuration.forwarder.orthanc.port) as pacs:
        pacs.answer = slow
        edge.actors("pacs", threads=8)
        core.receive(study[0])
        core.context.wakeup.wake("pacs")
        try:
            wait_until(lambda: slow.now == 1, 30, "the first to be on its way")
            for instance in study[1:]:
                core.receive(instance)
            core.context.wakeup.wake("pacs")
            wait_until(lambda: edge.one(PARKED) == 23, 40, "its siblings to be parked")
            slow.released.set()
            pacs.wait_for(*(instance.sop_instance_uid for instance in study), timeout=25)
        finally:
            slow.released.set()
            edge.kill()


def test_a_hanging_study_leaves_an_association_to_other_studies(make_edge: MakeEdge) -> None:
    """The PACS takes the first instance of a study and hangs at the others; another study gets through."""
    edge = patient(make_edge)
    first, *bad = study_of(24)
    choking = Choking(bad)
    with forwarding(edge) as core, peer(edge.configuration.forwarder.orthanc.port) as pacs:
        pacs.answer = choking
        edge.actors("pacs", threads=8)
        core.receive(first)
        core.context.wakeup.wake("pacs")
        edge.wait_state(first, "delivered")
        for instance in bad:
            core.receive(instance)
        core.context.wakeup.wake("pacs")
        try:
            wait_until(lambda: choking.now == 3, 30, "the PACS to hang at three of them")
            good = [Instance() for _ in range(6)]
            for instance in good:
                core.receive(instance)
            core.context.wakeup.wake("pacs")
            pacs.wait_for(*(instance.sop_instance_uid for instance in good), timeout=60)
            assert choking.most == 3
        finally:
            choking.released.set()
            edge.kill()


def sending(call: Callable[[], object]) -> threading.Thread:
    """Return a started thread that makes the call."""
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_suspects_are_sent_one_at_a_time_over_all_processes(core: Forwarding, pacs: Peer) -> None:
    """While one suspect is sent, another process postpones its sibling, and wakes it afterwards.

    The postponement counts no attempt.
    """
    bad, first, second = study_of(3)
    pacs.abort_in.add(bad.sop_instance_uid)
    assert forward_to_pacs(core.context, core.owed(bad)) is Outcome.BROKEN
    hanging = Choking([first], then=0)
    pacs.answer = hanging
    deliveries = [core.owed(first), core.owed(second)]
    other = core.actor()
    thread = sending(lambda: forward_to_pacs(core.context, deliveries[0]))
    try:
        wait_until(lambda: hanging.now == 1, 30, "the first to be on its way")
        assert forward_to_pacs(other, deliveries[1]) is Outcome.CROWDED
        row = core.edge.delivery(second)
        assert (row["state"], row["attempts"]) == ("pending", 0)
        assert "waits for its turn" in row["last_error"]
        assert core.edge.one(PARKED) == 1
        healthy = Instance()
        assert forward_to_pacs(other, core.owed(healthy)) is Outcome.DELIVERED
    finally:
        hanging.released.set()
        thread.join(60)
    due = "SELECT next_attempt_at <= now() FROM deliveries WHERE id = %(id)s"
    assert core.edge.one(due, id=deliveries[1])
    assert forward_to_pacs(other, deliveries[1]) is Outcome.DELIVERED
    other.associations.close()


def test_the_turn_of_a_dead_process_passes_to_who_claims_its_delivery(core: Forwarding, pacs: Peer) -> None:
    """G6: the end of that delivery wakes the next one."""
    bad, first, second = study_of(3)
    pacs.abort_in.add(bad.sop_instance_uid)
    assert forward_to_pacs(core.context, core.owed(bad)) is Outcome.BROKEN
    deliveries = [core.owed(first), core.owed(second)]
    core.edge.run(
        "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), claimed_by = 4711,"
        " lease_until = now() + interval '1 minute' WHERE id = %(id)s",
        id=deliveries[0],
    )
    core.edge.run("UPDATE destinations SET turn_of = %(id)s WHERE ae_title = 'ORTHANC'", id=deliveries[0])
    assert forward_to_pacs(core.context, deliveries[1]) is Outcome.CROWDED
    assert forward_to_pacs(core.context, deliveries[0]) is Outcome.DELIVERED
    assert forward_to_pacs(core.context, deliveries[1]) is Outcome.DELIVERED


def test_a_study_is_no_suspect_after_its_bad_instance_arrived(core: Forwarding, pacs: Peer) -> None:
    """The PACS had the fault, not the instance."""
    [bad] = study_of(1)
    pacs.abort_in.add(bad.sop_instance_uid)
    delivery = core.owed(bad)
    assert forward_to_pacs(core.context, delivery) is Outcome.BROKEN
    assert core.edge.one("SELECT count(*) FROM suspects") == 1
    pacs.abort_in.clear()
    core.due()
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    assert core.edge.one("SELECT count(*) FROM suspects") == 0


def test_a_sender_is_suspect_when_three_of_its_studies_fail_and_nothing_else_arrives(
    core: Forwarding, pacs: Peer
) -> None:
    """One delivered study clears the sender; the studies that failed stay suspect."""
    bad = [Instance() for _ in range(3)]
    pacs.abort_in |= {instance.sop_instance_uid for instance in bad}
    for instance in bad:
        assert forward_to_pacs(core.context, core.owed(instance)) is Outcome.BROKEN
    core.edge.run("UPDATE destinations SET breaker = 'closed', failures_in_row = 0")
    fresh = Instance()
    delivery = core.owed(fresh)
    suspect = "SELECT is_suspect('ORTHANC', instance_id) FROM deliveries WHERE id = %(id)s"
    assert core.edge.one(suspect, id=delivery)
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    assert not core.edge.one(suspect, id=core.owed(Instance()))
    assert core.edge.one(suspect, id=core.edge.delivery(bad[0])["id"])


@pytest.mark.parametrize("takes_others", [True, False])
def test_failures_of_one_study_count_once_while_others_arrive(
    core: Forwarding, pacs: Peer, *, takes_others: bool
) -> None:
    """One bad study does not open the breaker while the PACS takes others.

    It does when the PACS takes nothing.
    """
    bad = study_of(4)
    pacs.abort_in |= {instance.sop_instance_uid for instance in bad}
    if takes_others:
        assert forward_to_pacs(core.context, core.owed(Instance())) is Outcome.DELIVERED
    for instance in bad:
        delivery = core.owed(instance)
        core.due()
        assert forward_to_pacs(core.context, delivery) is Outcome.BROKEN
    breaker = core.edge.one("SELECT breaker::text FROM destinations WHERE ae_title = 'ORTHANC'")
    assert breaker == ("closed" if takes_others else "open")


def test_a_pacs_that_takes_nothing_of_the_only_study_is_a_problem(core: Forwarding, pacs: Peer) -> None:
    """Its breaker stays closed, because another study was taken just before; `status --check` still fails."""

    def problems() -> list[str]:
        found = json.loads(CliRunner().invoke(build("status"), ["status", "--json"]).stdout)["findings"]
        return [one["text"] for one in found if one["problem"] and "ORTHANC" in one["text"]]

    assert forward_to_pacs(core.context, core.owed(Instance())) is Outcome.DELIVERED
    bad, healthy = study_of(2)
    pacs.abort_in.add(bad.sop_instance_uid)
    owed, later = core.owed(bad), core.owed(healthy)
    assert forward_to_pacs(core.context, owed) is Outcome.BROKEN
    assert core.edge.one("SELECT breaker::text FROM destinations WHERE ae_title = 'ORTHANC'") == "closed"
    [problem] = problems()
    assert "ORTHANC took nothing since it broke the association over 1 instances" in problem
    assert "2 instances wait" in problem
    core.due()
    assert forward_to_pacs(core.context, later) is Outcome.DELIVERED
    assert not problems()
