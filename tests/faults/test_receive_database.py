"""PostgreSQL fails during receptions: senders get the refusal in time to repeat, and no half is left."""

import signal
import time
from collections.abc import Iterator

import pytest
from conftest import Reconfigure
from support.edge_setup import EdgeSetup
from support.launcher import Processes
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.database.migrate import migrate
from gateway.lab import stray_processes
from gateway.lab.postgres import DATABASE, EmbeddedPostgres

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G6")]
COMMIT_SECONDS = 2.0


@pytest.fixture
def edge(
    own_postgres: EmbeddedPostgres,
    reconfigure: Reconfigure,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[EdgeSetup]:
    """Yield an edge with a PostgreSQL of its own, running."""
    own_postgres.start()
    own_postgres.create_database(DATABASE)
    migrate(own_postgres.dsn())
    monkeypatch.setenv("DATABASE_URL", own_postgres.dsn())
    changes = {
        "edge": {"commit_timeout_seconds": COMMIT_SECONDS},
        "sweep": {"orphan_grace_seconds": 0.001},
    }
    edge = EdgeSetup(reconfigure(changes), own_postgres.dsn(), processes)
    edge.serve()
    yield edge
    edge.kill()
    edge.close()


def accepts(edge: EdgeSetup, instance: Instance) -> bool:
    """Tell whether the instance is answered Success."""
    return edge.send(instance) == [0]


def test_without_postgresql_every_instance_gets_0xa700(
    edge: EdgeSetup, own_postgres: EmbeddedPostgres
) -> None:
    """Only files that reconcile removes are left; instances are accepted as soon as PostgreSQL is back."""
    first, refused = Instance(), Instance()
    assert edge.send(first) == [0]
    own_postgres.kill()
    for _ in range(3):
        assert edge.send(refused) == [0xA700]
    own_postgres.start()
    wait_until(lambda: accepts(edge, refused), 10, "PostgreSQL to be used again")
    edge.check_ledger([first])
    edge.scp.stop()
    edge.heal()
    edge.check_ledger([first, refused])
    known = {row[0] for row in edge.rows("SELECT place::text || '/' || file_name FROM instances")}
    assert {name for name in edge.files(partial=True) if not name.startswith("orphaned/")} == known


def test_a_stopped_postgresql_is_given_up_within_the_commit_timeout(
    edge: EdgeSetup, own_postgres: EmbeddedPostgres
) -> None:
    """The sender gets 0xA700 in time; the commit with unknown outcome and the repeat end as one instance."""
    instance = Instance()
    assert edge.send(Instance()) == [0]
    assert own_postgres.process is not None
    family = [own_postgres.process.pid, *stray_processes.descendants(own_postgres.process.pid)]
    stray_processes.send(family, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert edge.send(instance) == [0xA700]
        assert time.monotonic() - began < COMMIT_SECONDS + 1.5
        assert edge.send(instance) == [0xA700]
    finally:
        stray_processes.send(family, signal.SIGCONT)
    wait_until(lambda: accepts(edge, instance), 10, "PostgreSQL to be used again")
    edge.scp.stop()
    edge.heal()
    edge.check_ledger([instance])
    uid = instance.sop_instance_uid
    assert edge.one("SELECT count(*) FROM instances WHERE sop_instance_uid = %(uid)s", uid=uid) == 1
    assert edge.one("SELECT count(*) FROM deliveries") == 4
    assert len([name for name in edge.files(partial=True) if not name.startswith("orphaned/")]) == 2


def test_a_full_disk_of_postgresql_is_out_of_resources(edge: EdgeSetup) -> None:
    """Errors of class 53 give 0xA700, and the file is removed, since nothing was committed."""
    edge.run(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full'; END $$"
    )
    edge.run("CREATE TRIGGER full_disk BEFORE INSERT ON instances FOR EACH ROW EXECUTE FUNCTION full_disk()")
    assert edge.send(Instance()) == [0xA700]
    wait_until(lambda: edge.files(partial=True) == {}, 5, "the file to go")


def test_an_unforeseen_error_gives_0x0110_and_is_logged_with_its_location(edge: EdgeSetup) -> None:
    """The log names the code that raised it, and holds no value of the data set."""
    edge.run("ALTER TABLE instances ADD COLUMN needed text NOT NULL")
    assert edge.send(Instance()) == [0x0110]
    assert "_store" in edge.wait_log(outcome="refused", status="0x0110")["detail"]
    wait_until(lambda: edge.files(partial=True) == {}, 5, "the file to go")


def test_the_scp_waits_for_postgresql_at_its_start(
    edge: EdgeSetup, own_postgres: EmbeddedPostgres, processes: Processes
) -> None:
    """The log says that it waits; it listens when PostgreSQL answers."""
    edge.scp.stop()
    own_postgres.kill()
    waiting = processes.start("mini-pacs", "serve")
    edge.wait_log(stage="db", outcome="waiting")
    own_postgres.start()
    waiting.wait_for_port(edge.configuration.edge.port, 20)
    assert edge.send(Instance()) == [0]
