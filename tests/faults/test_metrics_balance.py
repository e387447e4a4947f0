"""Whatever is killed, the counters never fall, and equal the rows to the instance."""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup, children, store
from support.peers import Peer
from support.scraping import Scrape, counted, ledger, scrape
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.errors import PeerError
from gateway.lab import layout

pytestmark = [pytest.mark.guarantee("G6")]

ROUNDS = 6
PER_ROUND = 30


class Exporter:
    """An exporter as a process, with all scrapes that a test made."""

    def __init__(self, edge: EdgeSetup) -> None:
        [self.port] = layout.free_ports(1)
        self.process = edge.start("mini-pacs", "metrics", "--port", str(self.port), name="exporter")
        self.process.wait_for_port(self.port)
        self.seen: list[Scrape] = []

    def scrape(self) -> Scrape:
        """Scrape, and compare with the last one."""
        found = scrape(self.port)
        if self.seen and found.value("postgres_up") and self.seen[-1].value("postgres_up"):
            assert found.fallen(self.seen[-1]) == []
        self.seen.append(found)
        return found


@pytest.fixture
def pacs(make_edge: MakeEdge) -> Iterator[tuple[EdgeSetup, Peer]]:
    """Yield an edge and its PACS, which aborts an association now and then."""
    edge = make_edge({"edge": {"receivers": 2}, "forwarder": {"mode": "pacs_only", "lease_seconds": 40}})
    peer = Peer(edge.configuration.forwarder.orthanc.port)
    peer.on()
    try:
        yield edge, peer
    finally:
        peer.off()


def test_registrations_and_attempts_are_counted_once_whatever_is_killed(
    pacs: tuple[EdgeSetup, Peer],
) -> None:
    """Receivers, actors and the exporter are killed while instances and repeats come in and go out."""
    edge, _ = pacs
    chance = random.Random(18)  # noqa: S311  a seed, so that a failure can be repeated
    edge.serve()
    [actors] = edge.actors("pacs")
    exporter = Exporter(edge)
    acknowledged: list[Instance] = []
    for _ in range(ROUNDS):
        instances = [Instance() for _ in range(PER_ROUND)]
        instances += chance.sample(acknowledged, min(len(acknowledged), 5))  # repeats
        for victim in (children(edge.scp.pid)[0], actors.pid):
            half, instances = instances[: len(instances) // 2], instances[len(instances) // 2 :]
            with suppress(PeerError), edge.association({one.context: None for one in half}) as association:
                for number, one in enumerate(half):
                    if number == len(half) // 2:
                        with suppress(ProcessLookupError):
                            os.kill(victim, signal.SIGKILL)
                    if store(association, one)[0] == 0:
                        acknowledged.append(one)
        actors.kill()
        [actors] = edge.actors("pacs")
        exporter.scrape()
    exporter.process.kill()  # what it had in memory is only the snapshot
    after = Exporter(edge)
    after.seen.append(exporter.seen[-1])
    wait_until(
        lambda: edge.one("SELECT count(*) FROM deliveries WHERE state <> 'delivered'") == 0,
        60,
        "all to be delivered",
    )
    wait_until(lambda: counted(after.scrape()) == ledger(edge), 30, "the counters to equal the rows")
    assert edge.one("SELECT count(*) FROM instances") >= len({one.digest for one in acknowledged})
