"""Actors or PostgreSQL are killed in the middle of a delivery: it runs again soon, and ends once."""

import threading
from collections.abc import Iterator

import pytest
from conftest import MakeEdge, Reconfigure
from support.edge_setup import EdgeSetup
from support.forwarding import forwarding
from support.launcher import Processes
from support.peers import Peer, after, peer
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until

from gateway.database.migrate import migrate
from gateway.database.tables import destinations
from gateway.lab.postgres import DATABASE, EmbeddedPostgres

pytestmark = pytest.mark.guarantee("G6")


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge without deliveries to workers."""
    return make_edge(
        {
            "forwarder": {"mode": "pacs_only", "probe_interval_seconds": 0.5},
            "sweep": {"orphan_grace_seconds": 0.001},
        }
    )


@pytest.fixture
def pacs(edge: EdgeSetup) -> Iterator[Peer]:
    """Yield the PACS, listening."""
    with peer(edge.configuration.forwarder.orthanc.port) as pacs:
        yield pacs


def test_the_delivery_of_a_killed_actor_is_sent_by_another(edge: EdgeSetup, pacs: Peer) -> None:
    """The actor is killed after it sent the C-STORE and before it settled the delivery."""
    go_on = threading.Event()
    pacs.answer = after(go_on)
    instances = study_of(4)
    with forwarding(edge) as core:
        [victim] = edge.actors("pacs")
        for instance in instances:
            core.receive(instance)
        core.context.wakeup.wake("pacs")
        in_flight = "SELECT count(*) FROM deliveries WHERE state = 'in_flight'"
        try:
            wait_until(lambda: edge.one(in_flight) == 4, 10, "all to be in flight")
            edge.actors("pacs")
            victim.kill()
        finally:
            go_on.set()
        for instance in instances:
            edge.wait_state(instance, "delivered", timeout=30)
        edge.kill()
    assert all(pacs.count(instance.sop_instance_uid) <= 2 for instance in instances)


def test_actors_killed_again_and_again_deliver_everything(edge: EdgeSetup, pacs: Peer) -> None:
    """Only deliveries in flight at a kill may arrive twice; none is lost, dead or left open."""
    instances = study_of(120, payload=b"\x01\x02" * 2048)
    with forwarding(edge) as core:
        for instance in instances:
            core.receive(instance)
        kills = 0
        for kills in range(1, 4):
            [actors] = edge.actors("pacs")
            wait_until(lambda n=kills: len(pacs.taken) >= 25 * n, 20, "some to arrive")  # type: ignore[misc]
            actors.kill()
        [actors] = edge.actors("pacs")
        pacs.wait_for(*(instance.sop_instance_uid for instance in instances), timeout=30)
        for instance in instances:
            edge.wait_state(instance, "delivered")
        wait_until(lambda: edge.queued() == 0, 10, "the queue to be empty")
        actors.stop()
    assert len(pacs.taken) <= len(instances) + 4 * kills  # four threads
    edge.heal()  # a kill between a settle and the move leaves the file in its old place
    assert {name.split("/")[0] for name in edge.files()} == {"sent"}


def test_a_delivery_in_flight_is_settled_after_a_crash_of_postgresql(
    own_postgres: EmbeddedPostgres,
    reconfigure: Reconfigure,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The peer answers while PostgreSQL is down: the settle waits for it, and nothing is sent again."""
    own_postgres.start()
    own_postgres.create_database(DATABASE)
    migrate(own_postgres.dsn())
    monkeypatch.setenv("DATABASE_URL", own_postgres.dsn())
    edge = EdgeSetup(reconfigure({"forwarder": {"mode": "pacs_only"}}), own_postgres.dsn(), processes)
    with edge.database.transaction() as session:
        destinations.configure(session, edge.configuration)
    arrived, go_on = threading.Event(), threading.Event()
    with peer(edge.configuration.forwarder.orthanc.port) as pacs, forwarding(edge) as core:
        pacs.answer = after(go_on, arrived=arrived)
        edge.actors("pacs")
        instance = Instance()
        core.receive(instance)
        core.context.wakeup.wake("pacs")
        try:
            # The claim is not enough: before the actor sends, it may ask PostgreSQL what to propose.
            wait_until(arrived.is_set, 10, "the instance to arrive")
            assert edge.delivery(instance)["state"] == "in_flight"
            edge.run("UPDATE destinations SET reason = NULL")  # flushes the claim, which could be lost
            own_postgres.kill()
        finally:
            go_on.set()
        edge.wait_log(outcome="settle_waits")
        own_postgres.start()
        edge.database.close()  # the connections of this process are to the killed server
        edge.wait_state(instance, "delivered", timeout=15)
        other = Instance()
        core.receive(other)
        pacs.wait_for(other.sop_instance_uid)
        assert pacs.count(instance.sop_instance_uid) == 1
        edge.kill()
    edge.close()
