"""The breaker of a peer and its probes, and the associations that attempts share."""

import threading
from collections.abc import Iterator

import pytest
from conftest import MakeEdge
from support.forwarding import QUICK, Forwarding, forwarding, pacs_of
from support.peers import ABORT, Peer, after
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until

from gateway.dicom.policy import LOCAL_LIMIT_EXCEEDED
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.forward.deliver import forward_to_pacs
from gateway.forward.probe import probe


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process; it retries quickly."""
    with forwarding(make_edge({"forwarder": QUICK})) as core:
        yield core


@pytest.mark.parametrize("how", ["off", "rejects"])
def test_an_unreachable_peer_counts_no_attempt(core: Forwarding, pacs: Peer, how: str) -> None:
    """G2: it is pending with the reason; the breaker is open, and only the probe runs."""
    if how == "off":
        pacs.off()
    else:
        pacs.rejection = LOCAL_LIMIT_EXCEEDED
    instance = Instance()
    assert forward_to_pacs(core.context, core.owed(instance)) is Outcome.AWAY
    row = core.edge.delivery(instance)
    assert (row["state"], row["attempts"]) == ("pending", 0)
    assert row["last_error"]
    assert core.edge.one("SELECT breaker::text FROM destinations WHERE ae_title = 'ORTHANC'") == "open"
    assert core.edge.one("SELECT dramatiq.room('pacs', 5)") == 0
    assert (
        core.edge.one("SELECT count(*) FROM dramatiq.queue WHERE message ->> 'actor_name' = 'probe_pacs'")
        == 1
    )


def probe_now(core: Forwarding) -> bool:
    """Run the probe that is due; return its result."""
    core.edge.run("UPDATE destinations SET next_probe_at = now()")
    return probe(core.context, Route.PACS, "ORTHANC")


def test_a_probe_closes_the_breaker_when_the_peer_is_back(core: Forwarding, pacs: Peer) -> None:
    """Each probe enqueues the next while the peer is away, and none when it is back."""
    pacs.off()
    instance = Instance()
    delivery = core.owed(instance)
    forward_to_pacs(core.context, delivery)
    assert not probe_now(core)
    assert core.edge.one("SELECT count(*) FROM dramatiq.queue WHERE priority = -1") == 2
    pacs.on()
    assert probe_now(core)
    assert not probe_now(core)
    assert core.edge.one("SELECT dramatiq.room('pacs', 5)") == 5
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED


def test_three_instances_in_a_row_open_the_breaker_and_one_does_not(core: Forwarding, pacs: Peer) -> None:
    """One instance that breaks the association each time is at fault itself; three mean that the peer is."""
    pacs.answer = lambda _: ABORT
    deliveries = [core.owed(instance) for instance in study_of(3)]
    for _ in range(2):
        forward_to_pacs(core.context, deliveries[0])
        core.due()
    breaker = "SELECT breaker::text FROM destinations WHERE ae_title = 'ORTHANC'"
    assert core.edge.one(breaker) == "closed"
    forward_to_pacs(core.context, deliveries[1])
    assert core.edge.one(breaker) == "closed"
    forward_to_pacs(core.context, deliveries[2])
    assert core.edge.one(breaker) == "open"


def test_a_peer_out_of_resources_is_probed_with_a_c_store(core: Forwarding, pacs: Peer) -> None:
    """It answers C-ECHO all the time, but only a C-STORE shows that it has space again."""
    pacs.answer = lambda _: 0xA700
    instances = study_of(3)
    for instance in instances:
        forward_to_pacs(core.context, core.owed(instance))
    assert core.edge.one("SELECT probe_by_store FROM destinations WHERE ae_title = 'ORTHANC'")
    probe_now(core)
    assert core.edge.one("SELECT dramatiq.room('pacs', 5)") == 0
    pacs.answer = lambda _: 0
    probe_now(core)
    assert core.edge.one("SELECT dramatiq.room('pacs', 5)") == 5
    assert len(pacs.uids()) == 1


def test_an_association_is_kept_and_renewed_for_another_context(core: Forwarding, pacs: Peer) -> None:
    """One association serves a study; a missing context closes it and opens another."""
    for instance in study_of(3):
        assert forward_to_pacs(core.context, core.owed(instance)) is Outcome.DELIVERED
    assert pacs.associations == 1
    other = Instance(sop_class_uid="1.2.840.10008.5.1.4.1.1.4")
    assert forward_to_pacs(core.context, core.owed(other)) is Outcome.DELIVERED
    assert pacs.associations == 2
    assert forward_to_pacs(core.context, core.owed(Instance())) is Outcome.DELIVERED
    assert pacs.associations == 2


def test_an_idle_association_that_the_peer_ended_counts_no_attempt(core: Forwarding, pacs: Peer) -> None:
    """A new association is opened, and the instance is not blamed."""
    assert forward_to_pacs(core.context, core.owed(Instance())) is Outcome.DELIVERED
    pacs.off()
    pacs.on()
    instance = Instance()
    assert forward_to_pacs(core.context, core.owed(instance)) is Outcome.DELIVERED
    assert core.edge.delivery(instance)["attempts"] == 1


def test_a_timeout_is_not_tried_again_within_the_attempt(make_edge: MakeEdge) -> None:
    """A lease covers one send, so a peer that hangs on a reused association gets it once per attempt."""
    edge = make_edge({"forwarder": QUICK})
    hanging = edge.configuration.forwarder.orthanc.model_copy(update={"timeout_s": 1.0})
    forwarder = edge.configuration.forwarder.model_copy(update={"orthanc": hanging})
    edge.configuration = edge.configuration.model_copy(update={"forwarder": forwarder})
    with forwarding(edge) as core, pacs_of(core) as pacs:
        assert forward_to_pacs(core.context, core.owed(Instance())) is Outcome.DELIVERED
        go_on = threading.Event()
        pacs.answer = after(go_on)
        instance = Instance()
        try:
            assert forward_to_pacs(core.context, core.owed(instance)) is Outcome.BROKEN
        finally:
            go_on.set()
        wait_until(lambda: pacs.count(instance.sop_instance_uid), 5, "the peer to go on")
        assert pacs.associations == 1
