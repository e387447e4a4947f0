"""The rows of version 0.2.0 get their targets, and a receiver of that version may run on."""

from collections.abc import Iterator

import pytest

from gateway.database import migrate as module
from gateway.database.migrate import migrate, migrations
from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.database.session import Row
from gateway.lab.postgres import EmbeddedPostgres

BEFORE = "0015"
PEERS = """
INSERT INTO destinations (ae_title, route, max_outstanding, configured) VALUES
    ('OLD', 'pacs', 8, false), ('ORTHANC', 'pacs', 8, true), ('APP01', 'workers', 4, true),
    ('GONE', 'workers', 8, false)
"""
RECEIVE = Query(
    "receive",
    "SELECT verdict FROM receive_instance_from(%(uid)s, '1.2', '1.2.3', '1.4', '1.5',"
    " decode(repeat('ab', 32), 'hex'), 10, 'CT1', 'EDGE', '127.0.0.1', 'original', %(uid)s || '.dcm',"
    " '{pacs,workers}', '{forward_to_pacs,forward_to_worker}', 4, 'sender',"
    " 'forward_to_pacs', interval '30 seconds')",
)
TARGETS = Query(
    "targets",
    "SELECT i.sop_instance_uid, d.route::text, d.target, d.state::text, q.queue_name FROM deliveries d"
    " JOIN instances i ON i.id = d.instance_id LEFT JOIN dramatiq.queue q ON q.delivery_id = d.id"
    " ORDER BY i.sop_instance_uid, d.route",
)


@pytest.fixture
def old(postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Yield a database with the schema before, with its peers."""
    postgres.create_database("of_before")
    known = tuple(one for one in migrations() if one.version[:4] <= BEFORE)
    with monkeypatch.context() as patch:
        patch.setattr(module, "migrations", lambda: known)
        migrate(postgres.dsn("of_before"))
    database = Database(postgres.dsn("of_before"), application_name="test", size=1)
    with database.transaction() as session:
        session.script(PEERS)
    try:
        yield database
    finally:
        database.close()
        postgres.drop_database("of_before")


def receive(database: Database, uid: str) -> str:
    """Register an instance as a receiver of 0.2.0 does."""
    with database.transaction() as session:
        return str(session.value(RECEIVE, uid=uid))


def targets(database: Database) -> list[Row]:
    """Return each delivery with its target and its queue."""
    with database.statement() as session:
        return session.all(TARGETS)


def test_existing_deliveries_get_their_targets(old: Database) -> None:
    """The configured PACS, and the application `default`; what is settled, too."""
    assert [receive(old, "1.1"), receive(old, "1.2")] == ["stored", "stored"]
    with old.transaction() as session:
        session.script(
            "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), lease_until = now();"
            "UPDATE deliveries SET state = 'delivered', claim_id = NULL, lease_until = NULL,"
            " settled_at = now() WHERE route = 'pacs'"
        )
    migrate(old.dsn)
    assert {(route, target, state) for _, route, target, state, _ in targets(old)} == {
        ("pacs", "ORTHANC", "delivered"),
        ("workers", "default", "in_flight"),
    }
    with old.statement() as session:
        assert session.all(Query("served", "SELECT * FROM application_workers")) == [("default", "APP01", 4)]


def test_a_receiver_of_the_version_before_runs_on(old: Database) -> None:
    """Its deliveries get targets and queues, and a repeat creates none."""
    receive(old, "1.1")
    migrate(old.dsn)
    assert receive(old, "1.2") == "stored"
    assert [receive(old, "1.1"), receive(old, "1.2")] == ["duplicate", "duplicate"]
    assert targets(old) == [
        (uid, route, target, "pending", route)
        for uid in ("1.1", "1.2")
        for route, target in (("pacs", "ORTHANC"), ("workers", "default"))
    ]
