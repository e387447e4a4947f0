"""PostgreSQL fails in the middle of a reception, a delivery or a sweep: nothing is lost or half done."""

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
from conftest import Reconfigure
from support.edge_setup import EdgeSetup, store
from support.launcher import Processes
from support.peers import Peer, peer
from support.postgres_relay import Relay
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.database import roles
from gateway.database.migrate import migrate
from gateway.database.tables import destinations
from gateway.lab import stray_processes
from gateway.lab.layout import free_ports
from gateway.lab.postgres import DATABASE, EmbeddedPostgres

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G2"), pytest.mark.guarantee("G6")]


@pytest.fixture
def server(own_postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """Return a PostgreSQL of this test alone, on TCP, migrated."""
    [own_postgres._port] = free_ports(1)
    own_postgres.start()
    migrate(own_postgres.dsn())
    return own_postgres


def at(dsn: str, *ports: int) -> str:
    """Return the DSN of the same database with these ports of this machine, in this order."""
    parts = urlsplit(dsn)
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return dsn.replace(f"{parts.hostname}:{parts.port}", hosts)


@pytest.fixture
def relay(server: EmbeddedPostgres) -> Iterator[Relay]:
    """Yield a relay between the processes and that server."""
    with Relay(urlsplit(server.dsn()).port or 0) as relay:
        yield relay


WITH_A_WORKER = "with a worker"


@pytest.fixture
def edge(  # noqa: PLR0917  fixtures
    server: EmbeddedPostgres,
    relay: Relay,
    reconfigure: Reconfigure,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[EdgeSetup]:
    """Yield an edge whose processes reach PostgreSQL through the relay; none is started.

    With the parameter WITH_A_WORKER it has one worker with one place, and long leases.
    """
    monkeypatch.setenv("DATABASE_URL", at(server.dsn(), relay.port))
    ports = {
        "host": "127.0.0.1",
        "port": reconfigure({}).forwarder.orthanc.port,
        "ae_title": "ORTHANC",
        "timeout_s": 2,
    }
    forwarder = {
        "mode": "pacs_only",
        "orthanc": ports,
        "workers": [],
        "lease_seconds": 4,
        "connect_timeout_seconds": 1,
        "backoff_base_seconds": 0.2,
        "backoff_max_seconds": 1,
    }
    if getattr(request, "param", None) == WITH_A_WORKER:
        port = reconfigure({}).forwarder.workers[0].port
        forwarder |= {
            "mode": "workers_only",
            "workers": [{"host": "127.0.0.1", "port": port, "ae_title": "APP01"}],
            "worker_max_outstanding": 1,
            "lease_seconds": 90,
        }
    changes: dict[str, dict[str, Any]] = {
        "edge": {"commit_timeout_seconds": 2, "receivers": 1},
        "forwarder": forwarder,
        "sweep": {"orphan_grace_seconds": 0.001},
    }
    edge = EdgeSetup(reconfigure(changes), server.dsn(), processes)
    with edge.database.transaction() as session:
        destinations.configure(session, edge.configuration)
    yield edge
    edge.kill()
    edge.close()


@pytest.fixture
def pacs(edge: EdgeSetup) -> Iterator[Peer]:
    """Yield the PACS, listening."""
    with peer(edge.configuration.forwarder.orthanc.port) as pacs:
        yield pacs


Lose = Callable[[Relay], None]


# ---- the commit whose answer is not known ------------------------------------------------------------


@pytest.mark.parametrize("arrives", [True, False], ids=["commit unheard", "commit unsent"])
def test_a_registration_that_loses_postgresql_is_repeated(
    edge: EdgeSetup,
    relay: Relay,
    arrives: bool,  # noqa: FBT001  a column
) -> None:
    """G1, G4: the sender has its Success; committed or not, the instance is registered once."""
    edge.serve()
    instance = Instance()
    with edge.association([instance.context]) as association:
        assert store(association, Instance())[0] == 0
        assert edge.one("SELECT count(*) FROM instances") == 1
        lose = relay.lose_answer if arrives else relay.lose_statement
        lose(b"EXECUTE register_")  # the statement is the transaction
        assert store(association, instance)[0] == 0
        assert relay.lost.wait(20)
        assert edge.wait_log(stage="db", outcome="waiting")
    wait_until(lambda: edge.one("SELECT count(*) FROM instances") == 2, 20, "its registration")
    edge.check_ledger([instance])
    assert edge.one("SELECT count(*) FROM deliveries") == 2
    assert edge.one("SELECT sum(repeats) FROM instances") == 0
    edge.scp.stop()
    edge.heal()
    assert edge.orphans() == []
    known = {row[0] for row in edge.rows("SELECT place::text || '/' || file_name FROM instances")}
    assert set(edge.files(partial=True)) == known


def delivered_at_last(edge: EdgeSetup, instance: Instance) -> None:
    """Wait until it is delivered; after the lease, run the sweep for a claim that no process holds."""

    def look() -> bool:
        return bool(
            edge.rows(
                "SELECT 1 FROM deliveries d JOIN instances i ON i.id = d.instance_id"
                " WHERE i.sop_instance_uid = %(uid)s"
                " AND (d.state = 'delivered' OR (d.state = 'in_flight' AND d.lease_until < now()))",
                uid=instance.sop_instance_uid,
            )
        )

    wait_until(look, 30, "it to be delivered, or its lease to be over")
    sweep = edge.start("mini-pacs", "sweep", "rescue")
    assert sweep.wait(30) == 0, sweep.text()
    edge.wait_state(instance, "delivered", timeout=30)


@pytest.mark.parametrize(
    "lose",
    [
        lambda relay: relay.lose_answer(b"EXECUTE settle_together"),
        lambda relay: relay.lose_statement(b"EXECUTE settle_together"),
        lambda relay: relay.lose_answer(b"EXECUTE claim_with_deliveries"),
        lambda relay: relay.lose_statement(b"EXECUTE claim_with_deliveries"),
    ],
    ids=["settled unheard", "settle unsent", "claimed unheard", "claim unsent"],
)
def test_a_delivery_that_loses_postgresql_is_delivered(
    edge: EdgeSetup, relay: Relay, pacs: Peer, lose: Lose
) -> None:
    """G2: committed or not, the PACS gets the instance once, and the row says so."""
    edge.serve()
    edge.actors("pacs", threads=1)
    first, instance = Instance(), Instance()
    assert edge.send(first) == [0]
    edge.wait_state(first, "delivered")
    lose(relay)
    assert edge.send(instance) == [0]
    assert relay.lost.wait(20), "the relay was to lose something"
    delivered_at_last(edge, instance)
    assert pacs.count(instance.sop_instance_uid) == 1
    wait_until(lambda: edge.queued("pacs") == 0, 20, "no message to be left")
    edge.check_ledger([first, instance])


@pytest.mark.parametrize("edge", [WITH_A_WORKER], indirect=True)
@pytest.mark.parametrize("lose", ["answer", "statement"])
def test_a_claim_for_workers_that_loses_postgresql_is_made_again(
    edge: EdgeSetup, relay: Relay, lose: str
) -> None:
    """The lost claim may hold the only place of the worker, which gets the instance before the lease ends."""
    [worker] = edge.configuration.forwarder.workers
    with peer(worker.port) as app:
        edge.serve()
        edge.actors("workers", threads=1)
        instance = Instance()
        (relay.lose_answer if lose == "answer" else relay.lose_statement)(b"EXECUTE claim_with_workers")
        assert edge.send(instance) == [0]
        assert relay.lost.wait(20), "the relay was to lose something"
        wait_until(lambda: app.count(instance.sop_instance_uid) == 1, 20, "the worker to get it")
        wait_until(lambda: edge.delivery(instance, "workers")["state"] == "delivered", 20, "the settlement")
    assert edge.one("SELECT count(*) FROM expected_results") == 1


def test_a_sweep_that_loses_postgresql_is_run_again(edge: EdgeSetup, relay: Relay) -> None:
    """The verb may fail; the next run ends with one message for the delivery."""
    edge.serve()
    instance = Instance()
    assert edge.send(instance) == [0]
    for lose in (relay.lose_answer, relay.lose_statement):
        edge.run("DELETE FROM dramatiq.queue")
        edge.run(
            "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(),"
            " claimed_by = 1, lease_until = now() - interval '1 second'"
        )
        lose(b"COMMIT", after=b"rescued: its claim")
        failed = edge.start("mini-pacs", "sweep", "rescue")
        assert failed.wait(30) == 3, failed.text()
        assert relay.lost.is_set()
        again = edge.start("mini-pacs", "sweep", "rescue")
        assert again.wait(30) == 0, again.text()
        assert edge.delivery(instance)["state"] == "pending"
        assert edge.queued("pacs") == 1


# ---- refused for now: deadlock, serialization, space -------------------------------------------------


def refuse(edge: EdgeSetup, table: str, event: str, code: str, times: int) -> None:
    """Let the next `times` changes of that table fail with that SQLSTATE."""
    edge.run("CREATE SEQUENCE IF NOT EXISTS refused_so_far")
    edge.run("SELECT setval('refused_so_far', 1, false)")
    edge.run(
        "CREATE OR REPLACE FUNCTION refuse_for_now() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF nextval('refused_so_far') <= {times} THEN"
        f" RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$"
    )
    edge.run(
        f"CREATE OR REPLACE TRIGGER refuse_for_now BEFORE {event} ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION refuse_for_now()"
    )


COLLISIONS = ["40P01", "40001"]


@pytest.mark.parametrize("code", COLLISIONS, ids=["deadlock", "serialization"])
def test_a_serialization_failure_or_deadlock_is_tried_again(edge: EdgeSetup, pacs: Peer, code: str) -> None:
    """A reception is not refused, a delivery is delivered, and the sweep succeeds at its next run."""
    edge.serve()
    refuse(edge, "instances", "INSERT", code, 2)
    instance = Instance()
    assert edge.send(instance) == [0]
    refuse(edge, "attempts", "INSERT", code, 2)
    edge.actors("pacs", threads=1)
    edge.wait_state(instance, "delivered", timeout=40)
    assert pacs.count(instance.sop_instance_uid) == 1
    edge.run(
        "UPDATE deliveries SET state = 'pending', next_attempt_at = now() + interval '1 h', settled_at = NULL"
    )
    edge.run(
        "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), claimed_by = 1,"
        " lease_until = now() - interval '1 second'"
    )
    refuse(edge, "deliveries", "UPDATE", code, 1)
    assert edge.start("mini-pacs", "sweep", "rescue").wait(30) == 4
    assert edge.start("mini-pacs", "sweep", "rescue").wait(30) == 0
    edge.wait_state(instance, "delivered", timeout=40)


def test_a_full_disk_of_postgresql_only_delays_deliveries(edge: EdgeSetup, pacs: Peer) -> None:
    """SQLSTATE 53100 at a settle makes no delivery dead; it is delivered when there is space again."""
    edge.serve()
    refuse(edge, "attempts", "INSERT", "53100", 2)
    instance = Instance()
    assert edge.send(instance) == [0]
    edge.actors("pacs", threads=1)
    edge.wait_state(instance, "delivered", timeout=40)
    assert pacs.count(instance.sop_instance_uid) == 1
    refuse(edge, "instances", "INSERT", "53100", 1)
    later = Instance()
    assert edge.send(later) == [0]
    wait_until(lambda: edge.one("SELECT count(*) FROM instances") == 2, 20, "its registration")
    edge.wait_state(later, "delivered", timeout=40)


# ---- no connection, no answer, another address -------------------------------------------------------


FEW = "few_connections"


def test_without_free_connections_every_process_waits(
    edge: EdgeSetup, server: EmbeddedPostgres, pacs: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Senders notice nothing, actors wait, commands exit with 3; all go on when connections are free."""
    role = FEW
    password = urlsplit(server.dsn()).password
    _administer(server, f"CREATE ROLE {role} LOGIN PASSWORD '{password}' CONNECTION LIMIT 40")
    roles.grant(server.dsn(), role)
    limited = server.dsn().replace("//mini_pacs:", f"//{role}:")
    monkeypatch.setenv("DATABASE_URL", limited)
    edge.serve()
    edge.actors("pacs")
    first, later = Instance(), Instance()
    assert edge.send(first) == [0]
    edge.wait_state(first, "delivered")
    _administer(server, f"ALTER ROLE {role} CONNECTION LIMIT 0")
    edge.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %(role)s", role=role)
    assert edge.send(later) == [0]
    assert edge.start("mini-pacs", "status").wait(30) == 3
    edge.wait_log(stage="queue", outcome="database_away")
    _administer(server, f"ALTER ROLE {role} CONNECTION LIMIT 40")
    pacs.wait_for(later.sop_instance_uid, timeout=30)
    edge.wait_state(later, "delivered")


def _administer(server: EmbeddedPostgres, statement: str) -> None:
    connection = psycopg2.connect(server.dsn("postgres"))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def test_forwarding_and_sweep_survive_a_stopped_server(
    edge: EdgeSetup, server: EmbeddedPostgres, pacs: Peer
) -> None:
    """The server gets SIGSTOP: deadlines pass, processes stay, and open deliveries are sent afterwards."""
    edge.serve()
    actors = edge.actors("pacs", "sweep")
    first, owed = Instance(), Instance()
    assert edge.send(first) == [0]
    edge.wait_state(first, "delivered")
    edge.run("UPDATE destinations SET paused = true")
    assert edge.send(owed) == [0]
    edge.run("UPDATE destinations SET paused = false")
    assert server.process is not None
    family = [server.process.pid, *stray_processes.descendants(server.process.pid)]
    stray_processes.send(family, signal.SIGSTOP)
    try:
        sweep = edge.start("mini-pacs", "sweep", "rescue")
        edge.wait_log(timeout=30, stage="queue", outcome="database_away")
        assert edge.send(Instance()) == [0]
    finally:
        stray_processes.send(family, signal.SIGCONT)
    edge.wait_state(owed, "delivered", timeout=30)
    assert pacs.count(owed.sop_instance_uid) >= 1
    assert sweep.wait(60) in {0, 3}
    assert all(process.popen.poll() is None for process in actors)


@pytest.mark.parametrize("silent", [False, True], ids=["first address refuses", "first address is silent"])
def test_a_failover_needs_no_operator(
    edge: EdgeSetup,
    server: EmbeddedPostgres,
    pacs: Peer,
    monkeypatch: pytest.MonkeyPatch,
    silent: bool,  # noqa: FBT001  a column
) -> None:
    """DATABASE_URL has two addresses: the first server ends, the second starts some seconds later."""
    first_port = urlsplit(server.dsn()).port or 0
    [second_port] = free_ports(1)
    monkeypatch.setenv("DATABASE_URL", at(server.dsn(), first_port, second_port))
    edge.serve()
    edge.actors("pacs")
    before, after = Instance(), Instance()
    assert edge.send(before) == [0]
    edge.wait_state(before, "delivered")
    server.stop()
    tarpit = socket.create_server(("127.0.0.1", first_port)) if silent else None
    try:
        assert edge.send(after) == [0]
        server._port = second_port
        server.start()
        edge.database.close()
        edge.database.dsn = server.dsn()
        pacs.wait_for(after.sop_instance_uid, timeout=60)
        edge.wait_state(after, "delivered", timeout=30)
    finally:
        if tarpit is not None:
            tarpit.close()
    assert Path(server.data).is_dir()
    assert DATABASE in server.dsn()
