"""An archive that hangs, or is away, delays no other archive."""

import threading
from contextlib import closing
from functools import partial

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.forwarding import forwarding
from support.synthetic_instances import Instance
from support.targets import hospital, owed, peers_of
from support.waiting import wait_until

from gateway.dicom.policy import StoreRequest

pytestmark = pytest.mark.guarantee("G5")

WAITING = 100_000
FILL = """
SELECT count(dramatiq.send('archives.VNA', 'forward_to_archive', jsonb_build_array(-i)))
FROM generate_series(1, %(count)s) AS i
"""
TOUCHED = "SELECT count(*) FROM dramatiq.queue WHERE queue_name = 'archives.VNA' AND state <> 'queued'"


class Hanging:
    """Answers nothing until it is released; counts how many wait at once."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.now = 0

    def __call__(self, _: StoreRequest) -> int:
        """Wait, then answer Success."""
        self.now += 1
        self.released.wait(100)
        return 0

    def close(self) -> None:
        """Answer all."""
        self.released.set()


def _is_at_res(edge: EdgeSetup, instance: Instance) -> bool:
    return owed(edge, instance)["archives RES"] == "delivered"


def test_an_archive_that_hangs_holds_no_thread_of_another(make_edge: MakeEdge) -> None:
    """VNA answers nothing; RES gets its instances, which are behind those of VNA in time."""
    edge = hospital(make_edge, mode="pacs_only", lease_seconds=300, max_associations_per_peer=8)
    with forwarding(edge) as core, peers_of(edge) as peers, closing(Hanging()) as hanging:
        peers["VNA"].answer = hanging
        instances = [Instance() for _ in range(12)]
        for instance in instances:
            core.receive(instance)
        edge.actors("archives", threads=4)
        wait_until(lambda: len(peers["RES"].taken) == 12, 60, "RES to have all")
        wait_until(lambda: hanging.now > 0, 60, "VNA to hold an instance")
        assert hanging.now <= 2, "half of the threads at most"
        more = Instance()
        core.receive(more)
        wait_until(lambda: owed(edge, more)["archives RES"] == "delivered", 30, "the next one")
        hanging.released.set()
        wait_until(lambda: len(peers["VNA"].taken) == 13, 60, "VNA to have all")


def test_what_waits_for_an_archive_that_is_away_costs_nothing(make_edge: MakeEdge) -> None:
    """100,000 wait for VNA, which is paused: none is claimed, and RES gets the next instance."""
    edge = hospital(make_edge, mode="pacs_only")
    with forwarding(edge) as core, peers_of(edge) as peers:
        edge.run("UPDATE destinations SET paused = true WHERE ae_title = 'VNA'")
        edge.one(FILL, count=WAITING)
        edge.actors("archives", threads=4)
        for _ in range(5):
            instance = Instance()
            core.receive(instance)
            core.context.wakeup.wake("archives")
            wait_until(partial(_is_at_res, edge, instance), 30, "RES to have it")
        assert edge.one(TOUCHED) == 0
        assert not peers["VNA"].taken
        assert [row[0] for row in edge.rows("SELECT unnest(queues) FROM dramatiq.consumers ORDER BY 1")] == [
            "archives",
            "archives.RES",
            "archives.VNA",
        ]
