"""`max_instances_per_second`: an archive gets no more than its rate, over all processes."""

import time
from datetime import timedelta

from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.synthetic_instances import study_of
from support.targets import forwarder, peers_of

from gateway.database.tables import destinations

RATE = 5.0
TITLES = ["ORTHANC", "VNA", "RES", "APP01", "APP02", "APP03"]


def limited(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge whose archive VNA has a rate, and RES none."""
    section = forwarder(mode="pacs_only")
    section["archives"][0]["max_instances_per_second"] = RATE
    return make_edge({"edge": {"allowed_calling_aets": TITLES}, "forwarder": section})


def test_two_processes_together_keep_the_rate_of_an_archive(make_edge: MakeEdge) -> None:
    """The n-th instance comes n - 1 pauses after the begin, at the earliest; other archives do not wait."""
    edge = limited(make_edge)
    study = study_of(12)
    with peers_of(edge) as peers:
        edge.serve()
        assert edge.send(*study) == [0] * len(study)
        began = time.monotonic()
        for _ in range(2):
            edge.actors("archives")
        peers["VNA"].wait_for(*(one.sop_instance_uid for one in study), timeout=60)
        peers["RES"].wait_for(*(one.sop_instance_uid for one in study), timeout=60)
        arrived = sorted(one.at for one in peers["VNA"].taken)
        assert all(at - began >= number / RATE for number, at in enumerate(arrived))
        assert max(one.at for one in peers["RES"].taken) < arrived[-1]
        edge.kill()


def room(edge: EdgeSetup, queue: str) -> int:
    """Return how many of 8 messages of a queue may be claimed."""
    return int(edge.one("SELECT dramatiq.room(%(queue)s, 8)", queue=queue))


def test_slots_follow_one_another_and_close_the_queue(make_edge: MakeEdge) -> None:
    """Nothing is claimed while the next slot is more than a second ahead; other archives go on."""
    edge = limited(make_edge)

    def slot(title: str) -> float:
        with edge.database.statement() as session:
            return destinations.take_slot(session, title, pause=timedelta(seconds=30))

    for title, queue, other in (("VNA", "archives.VNA", "archives.RES"), ("ORTHANC", "pacs", "archives.RES")):
        assert room(edge, queue) == 8
        assert slot(title) == 0
        assert 0 < slot(title) <= 30
        assert (room(edge, queue), room(edge, other)) == (0, 8)


def test_a_slot_of_a_clock_that_was_set_back_does_not_count(make_edge: MakeEdge) -> None:
    """It is hours ahead: the archive is sent to at once."""
    edge = limited(make_edge)
    edge.run("UPDATE destinations SET next_slot_at = now() + interval '2 hours'")
    assert room(edge, "archives.VNA") == 8
    with edge.database.statement() as session:
        assert destinations.take_slot(session, "VNA", pause=timedelta(seconds=1)) == 0
