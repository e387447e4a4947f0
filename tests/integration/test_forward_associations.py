"""A peer that allows few associations counts as slow, not as away."""

import threading
from collections.abc import Iterator

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, forwarding, pacs_of
from support.peers import Peer, peer
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until

from gateway.config import Configuration
from gateway.dicom.policy import LOCAL_LIMIT_EXCEEDED, Rejection, StoreRequest
from gateway.domain.outcome import Outcome
from gateway.forward.deliver import forward_to_pacs
from gateway.lab.layout import free_ports

BREAKER = "SELECT breaker::text FROM destinations WHERE ae_title = 'ORTHANC'"
AWAY = "SELECT count(*) FROM attempts WHERE outcome = 'away'"


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process; an association without an answer is given up after two seconds."""
    with forwarding(make_edge({"forwarder": {"connect_timeout_seconds": 2}})) as core:
        yield core


@pytest.fixture
def pacs(core: Forwarding) -> Iterator[Peer]:
    """Yield the PACS, listening."""
    with pacs_of(core) as pacs:
        yield pacs
        core.context.associations.close()


def test_a_peer_that_serves_one_association_at_a_time_gets_everything(core: Forwarding, pacs: Peer) -> None:
    """An idle association of one thread must not delay the requests of others until they time out."""
    pacs.one_at_a_time = True
    sent = study_of(12)
    deliveries = [core.owed(instance) for instance in sent]
    outcomes: list[Outcome | None] = []

    def forward(mine: list[int]) -> None:
        outcomes.extend(forward_to_pacs(core.context, delivery) for delivery in mine)

    threads = [threading.Thread(target=forward, args=(deliveries[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == [Outcome.DELIVERED] * len(sent)
    assert sorted(pacs.uids()) == sorted(instance.sop_instance_uid for instance in sent)


@pytest.mark.parametrize("answer", [None, LOCAL_LIMIT_EXCEEDED], ids=["leaves it unanswered", "rejects it"])
def test_a_peer_with_no_second_association_is_not_away(
    core: Forwarding, pacs: Peer, answer: Rejection | None
) -> None:
    """While it receives a large instance, no attempt is counted, and the breaker stays closed."""
    pacs.one_at_a_time = answer is None
    pacs.pause_seconds = 0.02
    large = Instance(payload=b"\x01\x02" * (24 << 20))
    [small] = study_of(1)
    first, second = core.owed(large), core.owed(small)
    sending = threading.Thread(target=forward_to_pacs, args=(core.context, first))
    sending.start()
    try:
        wait_until(lambda: pacs.associations == 1, 10, "the first association")
        pacs.rejection = answer
        for _ in range(2):
            core.due()
            assert forward_to_pacs(core.context, second) is Outcome.CROWDED
        row = core.edge.delivery(small)
    finally:
        sending.join(60)
    assert (row["state"], row["attempts"]) == ("pending", 0)
    assert "and no further one" in row["last_error"]
    assert core.edge.one(BREAKER) == "closed"
    pacs.rejection, pacs.pause_seconds = None, 0.0
    core.due()
    assert forward_to_pacs(core.context, second) is Outcome.DELIVERED
    assert core.edge.one(AWAY) == 0


def test_a_hanging_peer_is_away_at_once(core: Forwarding, pacs: Peer) -> None:
    """No association makes progress: another thread does not wait for its own timeout."""
    pacs.one_at_a_time = True
    first, second = study_of(2)
    delivery = core.owed(second)
    with core.context.associations.lend(core.edge.configuration.forwarder.orthanc, first.context, list):
        assert forward_to_pacs(core.context, delivery) is Outcome.AWAY


def test_a_peer_that_rejects_every_association_is_away(core: Forwarding, pacs: Peer) -> None:
    """No association is in use: the breaker opens."""
    pacs.rejection = LOCAL_LIMIT_EXCEEDED
    [instance] = study_of(1)
    assert forward_to_pacs(core.context, core.owed(instance)) is Outcome.AWAY


def moved(configuration: Configuration, port: int) -> Configuration:
    """Return the configuration with the PACS at another port."""
    forwarder = configuration.forwarder
    orthanc = forwarder.orthanc.model_copy(update={"port": port})
    return configuration.model_copy(update={"forwarder": forwarder.model_copy(update={"orthanc": orthanc})})


def test_a_peer_that_moves_gets_its_next_instance_at_the_new_address(core: Forwarding, pacs: Peer) -> None:
    """A reload changes its port: an association in use is finished, and then released."""
    first, second, third, fourth = study_of(4)
    arrived, answered = threading.Event(), threading.Event()

    def answer(_request: StoreRequest) -> int:
        arrived.set()
        answered.wait(30)
        return 0

    assert forward_to_pacs(core.context, core.owed(first)) is Outcome.DELIVERED
    pacs.answer = answer
    outcomes: list[Outcome | None] = []
    delivery = core.owed(second)
    sending = threading.Thread(target=lambda: outcomes.append(forward_to_pacs(core.context, delivery)))
    [port] = free_ports(1)
    with peer(port) as new_pacs:
        sending.start()
        assert arrived.wait(30)
        core.context.take(moved(core.edge.configuration, port))
        assert forward_to_pacs(core.context, core.owed(third)) is Outcome.DELIVERED
        answered.set()
        sending.join(60)
        assert outcomes == [Outcome.DELIVERED]
        assert forward_to_pacs(core.context, core.owed(fourth)) is Outcome.DELIVERED
        assert core.context.associations._peers["ORTHANC"].open == 1
        core.context.associations.close()
    assert [pacs.uids(), new_pacs.uids()] == [
        [one.sop_instance_uid for one in pair] for pair in ((first, second), (third, fourth))
    ]
