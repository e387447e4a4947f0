"""PostgreSQL is stopped, killed or restarted: no sender notices, and all is registered and sent later."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Self

import psycopg2
import pytest
from conftest import Reconfigure
from support.edge_setup import EdgeSetup, store
from support.forwarding import at_once
from support.launcher import Processes
from support.peers import peer
from support.synthetic_instances import Instance, new_uid, study_of
from support.versions import operate
from support.waiting import wait_until

from gateway.database.migrate import migrate
from gateway.errors import AssociationRejectedError
from gateway.lab import stray_processes
from gateway.lab.layout import free_ports
from gateway.lab.postgres import DATABASE, EmbeddedPostgres
from gateway.register.unregistered import backlog

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G6")]

BOUND_SECONDS = 10.0
"""No C-STORE may take longer. It takes milliseconds; a busy machine must not make the test fail."""
SECONDS = 60.0


class Load:
    """Senders that send small instances over associations of their own, until they are stopped."""

    def __init__(self, edge: EdgeSetup, senders: int = 4) -> None:
        self._edge = edge
        self._finished = threading.Event()
        self.sent: list[Instance] = []
        self.refused: list[object] = []
        self.longest = 0.0
        self._threads = [
            threading.Thread(
                target=self._send,
            )
            for _ in range(senders)
        ]

    def _send(self) -> None:
        study = new_uid()
        try:
            while not self._finished.is_set():
                with self._edge.association([Instance().context]) as association:
                    for _ in range(50):
                        instance = Instance(study_instance_uid=study)
                        began = time.monotonic()
                        status, comment = store(association, instance)
                        self.longest = max(self.longest, time.monotonic() - began)
                        if status != 0:
                            self.refused.append((hex(status), comment))
                            return
                        self.sent.append(instance)
                        if self._finished.wait(0.005):
                            return
        except Exception as error:  # noqa: BLE001  a sender must not notice anything
            self.refused.append(error)

    def __enter__(self) -> Self:
        """Start the senders."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them."""
        self._finished.set()
        for thread in self._threads:
            thread.join(SECONDS)

    def wait_for(self, more: int) -> None:
        """Wait until that many more instances were answered Success."""
        wanted = len(self.sent) + more

        def arrived() -> bool:
            assert self.refused == []
            return len(self.sent) >= wanted

        wait_until(arrived, SECONDS, f"{more} more to be accepted")


@pytest.fixture
def edge(
    own_postgres: EmbeddedPostgres,
    reconfigure: Reconfigure,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[EdgeSetup]:
    """Yield an edge with a PostgreSQL of its own, running; only the PACS gets instances."""
    [own_postgres._port] = free_ports(1)
    own_postgres.start()
    own_postgres.create_database(DATABASE)
    migrate(own_postgres.dsn())
    monkeypatch.setenv("DATABASE_URL", own_postgres.dsn())
    changes: dict[str, dict[str, Any]] = {
        "edge": {"commit_timeout_seconds": 2.0},
        "forwarder": {"mode": "pacs_only"},
        "sweep": {"orphan_grace_seconds": 0.001},
    }
    edge = EdgeSetup(reconfigure(changes), own_postgres.dsn(), processes)
    edge.identity.recognize(edge.database)
    edge.identity.mark(edge.database)  # a spool that is not known receives nothing
    yield edge
    edge.kill()
    edge.close()


def stop_family(server: EmbeddedPostgres, number: int) -> None:
    """Send a signal to PostgreSQL and all its processes."""
    assert server.process is not None
    family = [server.process.pid, *stray_processes.descendants(server.process.pid)]
    stray_processes.send(family, number)


def is_away(edge: EdgeSetup) -> bool:
    """Tell whether a receiver has noticed that PostgreSQL is away."""
    path = edge.configuration.edge.log_path
    return '"outcome":"waiting"' in path.read_text(encoding="utf-8")


def registered(edge: EdgeSetup) -> None:
    """Wait until nothing is unregistered."""
    wait_until(lambda: backlog(edge.spool, 1).count == 0, SECONDS, "all to be registered")


def delivered(edge: EdgeSetup, instances: list[Instance]) -> None:
    """Start the actors; check that the PACS gets each instance once."""
    with peer(edge.configuration.forwarder.orthanc.port) as pacs:
        edge.actors("pacs")
        wait_until(
            lambda: edge.one("SELECT count(*) FROM deliveries WHERE state <> 'delivered'") == 0,
            SECONDS,
            "all to be delivered",
            every=0.2,
        )
        assert sorted(pacs.uids()) == sorted(instance.sop_instance_uid for instance in instances)
        edge.kill()


def check_all(edge: EdgeSetup, instances: list[Instance]) -> None:
    """Check that each instance has one row and one delivery."""
    registered(edge)
    rows = edge.rows("SELECT sop_instance_uid FROM instances")
    assert sorted(uid for (uid,) in rows) == sorted(instance.sop_instance_uid for instance in instances)
    assert edge.one("SELECT count(*) FROM deliveries") == len(instances)
    assert edge.one("SELECT count(*) FROM repeats") == 0


def freeze(server: EmbeddedPostgres) -> Callable[[], None]:
    """Stop PostgreSQL's processes: its sockets stay open, and nothing answers."""
    stop_family(server, signal.SIGSTOP)
    return lambda: stop_family(server, signal.SIGCONT)


def kill(server: EmbeddedPostgres) -> Callable[[], None]:
    """Kill PostgreSQL: it recovers from its log at the next start."""
    server.kill()
    return server.start


def stop(server: EmbeddedPostgres) -> Callable[[], None]:
    """Stop PostgreSQL as a restart does."""
    server.stop()
    return server.start


@pytest.mark.parametrize("fault", [freeze, kill, stop])
def test_no_sender_notices_that_postgresql_is_away(
    edge: EdgeSetup, own_postgres: EmbeddedPostgres, fault: Callable[[EmbeddedPostgres], Callable[[], None]]
) -> None:
    """Under load: each C-STORE gets 0x0000; afterwards all is registered, and sent once."""
    edge.serve()
    with Load(edge) as load:
        load.wait_for(100)
        mend = fault(own_postgres)
        try:
            wait_until(lambda: is_away(edge), SECONDS, "the receiver to notice it")
            load.wait_for(200)
            assert backlog(edge.spool, 300).count >= 200
        finally:
            mend()
        load.wait_for(50)
    assert load.refused == []
    assert load.longest < BOUND_SECONDS
    check_all(edge, load.sent)
    delivered(edge, load.sent)


def test_several_restarts_in_a_row(edge: EdgeSetup, own_postgres: EmbeddedPostgres) -> None:
    """A failover may take several attempts; what was committed with an unknown outcome is found again."""
    edge.serve()
    with Load(edge) as load:
        for fault in (kill, freeze, stop, kill):
            load.wait_for(30)
            mend = fault(own_postgres)
            load.wait_for(30)
            mend()
    assert load.refused == []
    check_all(edge, load.sent)


def test_serve_starts_and_receives_without_postgresql(
    edge: EdgeSetup, own_postgres: EmbeddedPostgres
) -> None:
    """It listens, logs that it waits, receives, and registers when PostgreSQL is there."""
    own_postgres.kill()
    edge.serve()
    instances = study_of(20)
    assert edge.send(*instances) == [0] * 20
    wait_until(lambda: is_away(edge), SECONDS, "the log line")
    assert backlog(edge.spool, 100).count == 20
    own_postgres.start()
    check_all(edge, instances)
    delivered(edge, instances)


def test_receivers_that_die_while_postgresql_is_away_lose_nothing(
    edge: EdgeSetup, own_postgres: EmbeddedPostgres
) -> None:
    """The next ones register what they left: after SIGKILL, and after a stop."""
    edge.serve()
    own_postgres.kill()
    first, second, third = study_of(10), study_of(10), study_of(10)
    assert edge.send(*first) == [0] * 10
    edge.scp.kill()
    edge.serve()
    assert edge.send(*second) == [0] * 10
    edge.scp.stop()
    assert backlog(edge.spool, 100).count == 20
    edge.serve()
    assert edge.send(*third) == [0] * 10
    own_postgres.start()
    check_all(edge, [*first, *second, *third])


def test_a_repeat_that_was_received_while_away_undoes_no_later_cancel(
    edge: EdgeSetup, own_postgres: EmbeddedPostgres
) -> None:
    """The operator cancels after the repeat was received, and before it is registered."""
    edge.serve()
    [instance] = study_of(1)
    assert edge.send(instance) == [0]
    registered(edge)
    own_postgres.kill()
    assert edge.send(instance) == [0]
    edge.scp.kill()
    own_postgres.start()
    operate("deliveries", "cancel", "--study", instance.study_instance_uid, "--yes")
    assert edge.delivery(instance)["state"] == "cancelled"
    edge.serve()
    registered(edge)
    assert edge.one("SELECT repeats FROM instances") == 1
    assert edge.delivery(instance)["state"] == "cancelled"
    assert edge.send(instance) == [0]
    edge.wait_state(instance, "pending")


def test_versions_through_an_outage_are_sent_in_the_order_of_reception(
    edge: EdgeSetup, own_postgres: EmbeddedPostgres
) -> None:
    """Two receivers, four versions of each of eight instances, while PostgreSQL is away."""
    edge.serve()
    own_postgres.kill()
    firsts = study_of(8)
    versions = [
        [
            first,
            *(
                Instance(first.sop_instance_uid, first.study_instance_uid, payload=bytes([n, n]) * 64)
                for n in range(1, 4)
            ),
        ]
        for first in firsts
    ]

    def send(number: int) -> None:
        for version in versions[number]:  # each over an association of its own: any receiver may get it
            assert edge.send(version) == [0]

    at_once(*(lambda number=number: send(number) for number in range(8)))
    own_postgres.start()
    registered(edge)
    assert edge.one("SELECT count(*) FROM instances") == 32
    with peer(edge.configuration.forwarder.orthanc.port) as pacs:
        edge.actors("pacs")
        wait_until(
            lambda: edge.one("SELECT count(*) FROM deliveries WHERE state <> 'delivered'") == 0,
            SECONDS,
            "all to be delivered",
            every=0.2,
        )
        for sent in versions:
            uid = sent[0].sop_instance_uid
            got = [taken.digest for taken in pacs.taken if taken.sop_instance_uid == uid]
            assert got == [version.digest for version in sent]
        edge.kill()


def test_eight_senders_repeat_and_contradict_each_other(
    edge: EdgeSetup, own_postgres: EmbeddedPostgres
) -> None:
    """The same three versions from each sender, with PostgreSQL away and back: each is kept once."""
    edge.serve()
    first = Instance()
    versions = [
        Instance(first.sop_instance_uid, first.study_instance_uid, payload=bytes([n, n]) * 64)
        for n in range(3)
    ]

    def send(number: int) -> None:
        order = versions[number % 3 :] + versions[: number % 3]
        assert edge.send(*order) == [0] * 3

    calls = [lambda number=number: send(number) for number in range(8)]
    at_once(*calls)
    own_postgres.kill()
    at_once(*calls)
    own_postgres.start()
    at_once(*calls)
    registered(edge)
    assert edge.one("SELECT count(*) FROM instances") == 3
    assert edge.one("SELECT count(*) FROM deliveries") == 3
    assert edge.one("SELECT sum(repeats) FROM instances") == 3 * 24 - 3
    edge.check_ledger(versions)
    assert len(edge.files(partial=True)) == 3


# ---- what is not away ----------------------------------------------------------------------------


def rejected(edge: EdgeSetup) -> bool:
    """Tell whether associations are rejected now."""
    try:
        with edge.association([Instance().context]):
            return False
    except AssociationRejectedError as error:
        return error.is_transient


def is_received(edge: EdgeSetup) -> bool:
    """Tell whether an instance is received now."""
    with suppress(AssociationRejectedError):  # one receiver may be later than the other
        return edge.send(Instance()) == [0]
    return False


def test_a_refused_login_refuses_associations(edge: EdgeSetup, own_postgres: EmbeddedPostgres) -> None:
    """PostgreSQL answers and will not let the edge in: an operator must act. Then it receives again."""
    connection = psycopg2.connect(own_postgres.dsn())
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE other LOGIN SUPERUSER PASSWORD 'right'")
        # over TCP, because a password is asked for there only
        edge.serve(DATABASE_URL=f"postgresql://other:wrong@127.0.0.1:{own_postgres._port}/{DATABASE}")
        wait_until(lambda: rejected(edge), SECONDS, "associations to be rejected")
        assert "authentication failed" in edge.wait_log(outcome="rejected")["detail"]
        cursor.execute("ALTER ROLE other PASSWORD 'wrong'")
    connection.close()
    wait_until(lambda: is_received(edge), SECONDS, "it to receive", every=0.2)
    registered(edge)


def test_a_database_that_does_not_exist_refuses_associations(
    edge: EdgeSetup, own_postgres: EmbeddedPostgres
) -> None:
    """The same; it receives as soon as the database is there."""
    edge.database.close()
    connection = psycopg2.connect(own_postgres.dsn("postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {DATABASE} RENAME TO away")
        edge.serve()
        wait_until(lambda: rejected(edge), SECONDS, "associations to be rejected")
        assert f'database "{DATABASE}" does not exist' in edge.wait_log(outcome="rejected")["detail"]
        cursor.execute(f"ALTER DATABASE away RENAME TO {DATABASE}")
    connection.close()
    wait_until(lambda: is_received(edge), SECONDS, "it to receive", every=0.2)
    registered(edge)


def test_a_schema_of_a_newer_version_refuses_associations(edge: EdgeSetup) -> None:
    """A breaking migration that this version does not know; nothing is written into that schema."""
    edge.run(
        "INSERT INTO schema_migrations (version, digest, additive) VALUES ('9999_of_the_future', 'x', false)"
    )
    edge.serve()
    wait_until(lambda: rejected(edge), SECONDS, "associations to be rejected")
    assert "9999_of_the_future" in edge.wait_log(outcome="rejected")["detail"]
    assert edge.one("SELECT count(*) FROM instances") == 0
    edge.run("DELETE FROM schema_migrations WHERE version = '9999_of_the_future'")
    wait_until(lambda: is_received(edge), SECONDS, "it to receive", every=0.2)
    registered(edge)


def test_a_read_only_database_refuses_nobody(edge: EdgeSetup) -> None:
    """A standby during a failover: the edge receives, and registers when it may write again."""
    edge.serve()
    assert edge.send(Instance()) == [0]
    registered(edge)
    edge.run("ALTER SYSTEM SET default_transaction_read_only TO on")
    edge.one("SELECT pg_reload_conf()")
    instances = study_of(5)

    def is_read_only() -> bool:
        edge.send(*study_of(1))
        return is_away(edge)

    wait_until(is_read_only, SECONDS, "the registrar to be refused")
    assert edge.send(*instances) == [0] * 5
    assert not rejected(edge)
    connection = psycopg2.connect(edge.dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only TO off")
        cursor.execute("ALTER SYSTEM RESET default_transaction_read_only")
        cursor.execute("SELECT pg_reload_conf()")
    connection.close()
    registered(edge)
    edge.check_ledger(instances)


def test_with_postgresql_away_a_full_disk_is_named_as_the_disk(
    edge: EdgeSetup, own_postgres: EmbeddedPostgres, reconfigure: Reconfigure
) -> None:
    """The refusal says which of the two it is."""
    reconfigure({"edge": {"disk_reserve_mb": 1 << 30}})
    own_postgres.kill()
    edge.serve()
    wait_until(lambda: is_away(edge), SECONDS, "it to be away")
    assert rejected(edge)
    detail = edge.wait_log(outcome="rejected")["detail"]
    assert "edge.disk_reserve_mb" in detail
    assert "PostgreSQL" not in detail
