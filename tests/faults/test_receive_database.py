"""PostgreSQL fails during receptions: senders get the refusal in time to repeat, and no half is left."""

from collections.abc import Iterator

import pytest
from conftest import Reconfigure
from support.edge_setup import EdgeSetup
from support.launcher import Processes
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.database.migrate import migrate
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


def test_a_full_disk_of_postgresql_refuses_no_sender(edge: EdgeSetup) -> None:
    """Errors of class 53 count as away: the instance is kept, and registered when there is space."""
    edge.run(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full'; END $$"
    )
    edge.run("CREATE TRIGGER full_disk BEFORE INSERT ON instances FOR EACH ROW EXECUTE FUNCTION full_disk()")
    instance = Instance()
    assert edge.send(instance) == [0]
    assert "out of resources" in edge.wait_log(stage="db", outcome="waiting")["error"]
    edge.run("DROP TRIGGER full_disk ON instances")
    wait_until(lambda: edge.one("SELECT count(*) FROM instances") == 1, 10, "its registration")
    edge.check_ledger([instance])


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
