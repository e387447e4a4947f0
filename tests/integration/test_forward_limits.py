"""Leases, refusals, pauses and error comments: which of them limit a delivery."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, forwarding, pacs_of
from support.peers import Peer
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.database.tables import pauses
from gateway.dicom.contexts import ProposedContext
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.forward.deliver import forward_to_pacs
from gateway.forward.pause import end_pause
from gateway.forward.probe import probe
from gateway.sweep.rescue import rescue

QUICK = {
    "backoff_base_seconds": 0.2,
    "backoff_max_seconds": 0.4,
    "max_retries": 1,
    "connect_timeout_seconds": 2,
}
BREAKER = "SELECT breaker::text FROM destinations WHERE ae_title = 'ORTHANC'"


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process."""
    with forwarding(make_edge({"forwarder": QUICK})) as core:
        yield core


def test_a_claim_stays_valid_beyond_its_lease_while_bytes_flow(make_edge: MakeEdge) -> None:
    """G2: the sweep leaves a slow send alone; the instance is delivered once, by the first attempt."""
    edge = make_edge({"forwarder": QUICK})
    forwarder = edge.configuration.forwarder.model_copy(update={"lease_seconds": 3.0})
    edge.configuration = edge.configuration.model_copy(update={"forwarder": forwarder})
    with forwarding(edge) as core, pacs_of(core) as pacs:
        pacs.pause_seconds = 0.02
        instance = Instance(
            payload=b"\x01\x02" * (24 << 20)
        )  # sending the rest in the socket buffers takes less time than the lease
        delivery = core.owed(instance)
        sending = threading.Thread(target=forward_to_pacs, args=(core.context, delivery))
        sending.start()
        try:
            rescued = 0
            while sending.is_alive():
                rescued += rescue(core.sweeping())["rescued"]
                sending.join(0.2)
        finally:
            sending.join(60)
        assert rescued == 0
        assert pacs.count(instance.sop_instance_uid) == 1
        row = core.edge.delivery(instance)
        assert (row["state"], row["attempts"]) == ("delivered", 1)
        assert core.edge.one("SELECT duration_ms FROM attempts WHERE NOT fenced") > 3000


def test_out_of_resources_uses_up_no_retries(core: Forwarding, pacs: Peer) -> None:
    """A PACS that was full all night and then refuses once makes no delivery dead.

    `max_retries` counts refusals only.
    """
    instance = Instance()
    delivery = core.owed(instance)
    seen = []
    for answer in (0xA700, 0xA700, 0xA700, 0x0110, 0x0110):
        pacs.answer = lambda _, answer=answer: answer  # type: ignore[misc]
        core.due()
        forward_to_pacs(core.context, delivery)
        seen.append(core.edge.delivery(instance)["state"])
    assert seen == ["pending", "pending", "pending", "pending", "dead"]
    assert "after 2 attempts" in core.edge.delivery(instance)["last_error"]


def test_a_peers_error_comment_is_neither_stored_nor_logged(core: Forwarding, pacs: Peer) -> None:
    """G8: it may contain patient attributes."""
    pacs.answer = lambda _: 0xA700
    forward_to_pacs(core.context, core.owed(Instance()))
    comment = "as the test asked for"
    assert not core.edge.one("SELECT count(*) FROM attempts WHERE error LIKE %(c)s", c=f"%{comment}%")
    assert not core.edge.one("SELECT count(*) FROM deliveries WHERE last_error LIKE %(c)s", c=f"%{comment}%")
    assert not core.edge.one("SELECT count(*) FROM destinations WHERE reason LIKE %(c)s", c=f"%{comment}%")
    assert core.edge.one("SELECT error FROM attempts") == "ORTHANC answered 0xA700: not now"
    log = core.edge.configuration.edge.log_path
    assert not log.exists() or comment not in log.read_text(encoding="utf-8")


def test_nothing_is_sent_to_a_peer_that_is_paused(core: Forwarding, pacs: Peer) -> None:
    """The probe of its open breaker sends nothing, either."""
    pacs.answer = lambda _: 0xA700
    for _ in range(3):
        forward_to_pacs(core.context, core.owed(Instance()))
    assert core.edge.one(BREAKER) == "open"
    before = len(pacs.taken)
    core.edge.run("UPDATE destinations SET paused = true, next_probe_at = now() WHERE ae_title = 'ORTHANC'")
    assert not probe(core.context, Route.PACS, "ORTHANC")
    assert len(pacs.taken) == before
    core.edge.run("UPDATE destinations SET paused = false, next_probe_at = now()")
    pacs.answer = lambda _: 0
    probe(core.context, Route.PACS, "ORTHANC")
    assert len(pacs.taken) == before + 1
    assert core.edge.one(BREAKER) == "closed"


def test_a_pause_ends_by_itself_and_an_open_breaker_is_probed_again(core: Forwarding, pacs: Peer) -> None:
    """The message of an earlier end changes nothing, and neither does one after `resume`."""
    assert pacs.taken == []
    with core.edge.database.transaction() as session:
        assert pauses.pause(session, "ORTHANC", by="anna", lasting=timedelta(hours=1))
        assert not pauses.pause(session, "ORTHANC", by="bob")
    assert core.edge.one(
        "SELECT due > now() + interval '59 min' FROM dramatiq.queue WHERE queue_name = 'sweep'"
    )
    assert not end_pause(core.edge.database, core.context.wakeup, "ORTHANC")
    core.edge.run("UPDATE destinations SET paused_until = now(), breaker = 'open' WHERE ae_title = 'ORTHANC'")
    assert end_pause(core.edge.database, core.context.wakeup, "ORTHANC")
    assert core.edge.one(BREAKER) == "open"
    assert not core.edge.one("SELECT paused FROM destinations WHERE ae_title = 'ORTHANC'")
    assert probe(core.context, Route.PACS, "ORTHANC")
    assert core.edge.one(BREAKER) == "closed"
    assert not end_pause(core.edge.database, core.context.wakeup, "ORTHANC")


def test_many_large_instances_do_not_open_the_breaker(make_edge: MakeEdge) -> None:
    """All associations are in use: no attempt is counted, and the breaker stays closed."""
    edge = make_edge({"forwarder": QUICK})
    # the wait for an association is the lease without the time of one send: half a second here
    longest = edge.configuration.forwarder.orthanc.timeout_s + QUICK["connect_timeout_seconds"]
    forwarder = edge.configuration.forwarder.model_copy(
        update={"lease_seconds": longest + 1, "max_associations_per_peer": 1}
    )
    edge.configuration = edge.configuration.model_copy(update={"forwarder": forwarder})
    with forwarding(edge) as core, pacs_of(core):
        instance = Instance()
        context = ProposedContext(instance.sop_class_uid, "1.2.840.10008.1.2.1")
        delivery = core.owed(instance)
        with core.context.associations.lend(forwarder.orthanc, context, list):
            assert forward_to_pacs(core.context, delivery) is Outcome.CROWDED
        row = core.edge.delivery(instance)
        assert (row["state"], row["attempts"]) == ("pending", 0)
        assert core.edge.one(BREAKER) == "closed"
        core.due()
        assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED


def test_the_breaker_counts_different_instances(core: Forwarding, pacs: Peer) -> None:
    """Two instances that fail alternately count as two; a third one opens it."""
    pacs.answer = lambda _: 0xA700
    first, second = core.owed(Instance()), core.owed(Instance())
    for delivery in (first, second, first, second):
        core.due()
        forward_to_pacs(core.context, delivery)
    assert core.edge.one(BREAKER) == "closed"
    forward_to_pacs(core.context, core.owed(Instance()))
    assert core.edge.one(BREAKER) == "open"
    wait_until(lambda: core.edge.queued("pacs") >= 1, 5, "the probe's message")
