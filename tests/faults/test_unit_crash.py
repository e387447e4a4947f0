"""Actors are killed or stopped while they send a series: it is sent whole, and answered once."""

import threading
from collections.abc import Iterator

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.peers import Peer, after
from support.synthetic_instances import result_of
from support.units import Units, series_of, units_of, whole
from support.waiting import wait_until

pytestmark = pytest.mark.guarantee("G6")

QUEUES = ("workers", "sweep")


@pytest.fixture
def units(make_edge: MakeEdge) -> Iterator[Units]:
    """Yield an edge with a short quiet time, whose application has two replicas."""
    with units_of(whole(make_edge, complete_after_seconds=1, max_wait_seconds=60)) as running:
        yield running


def state(edge: EdgeSetup) -> str:
    """Return the state of the only unit."""
    return str(edge.one("SELECT state::text FROM units"))


def stop_at(peers: dict[str, Peer], uid: str, go_on: threading.Event) -> None:
    """Let every worker wait before it answers for that instance."""
    wait = after(go_on)
    for one in peers.values():
        one.answer = lambda request: wait(request) if request.sop_instance_uid == uid else 0


def test_a_unit_whose_sender_is_killed_is_sent_whole_by_another(units: Units) -> None:
    """Killed in the middle of the association: the next process begins at the first instance."""
    edge, series = units.edge, series_of(6)
    go_on = threading.Event()
    stop_at(units.peers, series[3].sop_instance_uid, go_on)
    [victim] = edge.actors("workers")
    units.receive(*series)
    try:
        wait_until(lambda: sum(map(len, units.got().values())) == 3, 30, "three instances at a worker")
        assert state(edge) == "sending"
        edge.actors("workers")
        victim.kill()
        wait_until(lambda: edge.one("SELECT count(*) FROM unit_dispatches") == 2, 30, "another process")
    finally:
        go_on.set()
    wait_until(lambda: state(edge) == "sent", 30, "the unit to be sent")
    got = units.got()[units.worker()]
    assert all(got.count(one.sop_instance_uid) == 2 for one in series[:3])
    assert {one.sop_instance_uid for one in series} == set(got)
    assert units.delivery_states() == {"delivered"}
    edge.kill()


def test_a_stopped_sender_does_not_finish_a_unit_that_another_has(units: Units) -> None:
    """SIGSTOP until the lease is over: when it goes on, its outcome is fenced."""
    edge, series = units.edge, series_of(4)
    go_on = threading.Event()
    stop_at(units.peers, series[2].sop_instance_uid, go_on)
    [stopped] = edge.actors("workers")
    units.receive(*series)
    try:
        wait_until(lambda: sum(map(len, units.got().values())) == 2, 30, "two instances at a worker")
        stopped.pause()
        edge.run("UPDATE units SET lease_until = now() - interval '1 second'")
        go_on.set()
        units.run()
        assert state(edge) == "sent"
        stopped.resume()
        edge.wait_log(outcome="fenced", timeout=30)
    finally:
        go_on.set()
    assert [row[0] for row in edge.rows("SELECT outcome FROM unit_dispatches ORDER BY id")] == [
        "fenced",
        "sent",
    ]
    edge.kill()


def test_every_process_is_killed_again_and_again_and_each_unit_is_answered(units: Units) -> None:
    """Five series, actors killed three times; the workers' results answer each unit; nothing is dead."""
    edge = units.edge
    all_series = [series_of(8) for _ in range(5)]
    for series in all_series:
        units.receive(*series)
    for kills in range(1, 4):
        [actors] = edge.actors("workers")
        wait_until(lambda n=kills: sum(map(len, units.got().values())) >= 9 * n, 60, "some to arrive")  # type: ignore[misc]
        actors.kill()
    edge.actors(*QUEUES)
    wait_until(lambda: set(units.states()) == {"sent"}, 60, "all units to be sent")
    for series in all_series:
        worker = edge.one("SELECT worker FROM units WHERE uid = %(uid)s", uid=series[0].series_instance_uid)
        assert {one.sop_instance_uid for one in series} <= set(units.got()[worker])
        units.core.receive(result_of(series[0]), worker=worker)
    assert units.states() == ["answered"] * 5
    assert units.delivery_states() == {"delivered"}
    edge.kill()
