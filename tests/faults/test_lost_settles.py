"""A crash of PostgreSQL takes back settles that were not on the disk yet: they are repeated."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Reconfigure
from support.edge_setup import EdgeSetup
from support.forwarding import Forwarding, forwarding
from support.launcher import Processes
from support.peers import Peer, peer
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.database.migrate import migrate
from gateway.database.tables import destinations
from gateway.forward.deliver import forward_to_pacs
from gateway.lab.postgres import DATABASE, EmbeddedPostgres
from gateway.spool.spool import Spool
from gateway.sweep.purge import purge

pytestmark = [pytest.mark.guarantee("G2"), pytest.mark.guarantee("G6")]


@pytest.fixture
def edge(
    own_postgres: EmbeddedPostgres,
    reconfigure: Reconfigure,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[EdgeSetup]:
    """Yield an edge on a PostgreSQL that writes its log late, if no commit waits for it."""
    own_postgres.start()
    own_postgres.create_database(DATABASE)
    migrate(own_postgres.dsn())
    monkeypatch.setenv("DATABASE_URL", own_postgres.dsn())
    changes: dict[str, dict[str, object]] = {
        "forwarder": {"mode": "pacs_only"},
        "sweep": {"retention_hours": 1e-9},
    }
    edge = EdgeSetup(reconfigure(changes), own_postgres.dsn(), processes)
    with edge.database.statement() as session:
        session.script("ALTER SYSTEM SET wal_writer_delay = '10s'")
        session.script("ALTER SYSTEM SET autovacuum = off")
    with edge.database.statement() as session:
        session.script("SELECT pg_reload_conf()")
    with edge.database.transaction() as session:
        destinations.configure(session, edge.configuration)
    edge.spool.prepare()
    edge.identity.recognize(edge.database)
    edge.identity.mark(edge.database)
    yield edge
    edge.close()


@pytest.fixture
def pacs(edge: EdgeSetup) -> Iterator[Peer]:
    """Yield the PACS, listening."""
    with peer(edge.configuration.forwarder.orthanc.port) as pacs:
        yield pacs


def _delivered(core: Forwarding, edge: EdgeSetup) -> Instance:
    instance = Instance()
    core.receive(instance)
    forward_to_pacs(core.context, edge.delivery(instance)["id"])
    assert edge.delivery(instance)["state"] == "delivered"
    return instance


def test_a_settle_that_a_crash_takes_back_is_repeated(
    edge: EdgeSetup, pacs: Peer, own_postgres: EmbeddedPostgres
) -> None:
    """The delivery is open again, with its message, and ends delivered; the PACS gets it at most twice."""
    with forwarding(edge) as core:
        instance = _delivered(core, edge)
        own_postgres.kill()
        own_postgres.start()
        edge.database.close()  # the connections of this process are to the killed server
        edge.actors("pacs")
        edge.wait_state(instance, "delivered", timeout=30)
        wait_until(lambda: edge.one("SELECT count(*) FROM dramatiq.queue") == 0, 10, "the message to end")
        edge.kill()
    assert 1 <= pacs.count(instance.sop_instance_uid) <= 2


def test_purge_removes_no_file_whose_settle_could_be_lost(
    edge: EdgeSetup, pacs: Peer, own_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL crashes between the removal of the file and the commit: the delivery is still delivered."""
    with forwarding(edge) as core:
        instance = _delivered(core, edge)
        context = core.sweeping()
        remove = Spool.remove

        def crash_after(spool: Spool, *file: str) -> None:
            remove(spool, *file)  # type: ignore[arg-type]  # the place is a string as well
            own_postgres.kill()

        monkeypatch.setattr(Spool, "remove", crash_after)
        with pytest.raises(Exception, match="lost"):
            purge(context)
        own_postgres.start()
        edge.database.close()
        assert not list(Path(edge.configuration.edge.data_root).glob("*/*/*.dcm"))
        assert edge.delivery(instance)["state"] == "delivered"
    assert pacs.count(instance.sop_instance_uid) == 1
