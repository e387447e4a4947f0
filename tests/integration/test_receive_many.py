"""A batch of receptions has the same effects as its instances one by one."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from support import statements

from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.database.session import Row
from gateway.database.tables import instances
from gateway.database.tables.instances import ReceivedInstance, ReceptionVerdict, RegisteredInstance
from gateway.domain.instance import Kind
from gateway.domain.routing import Route, Target

WINDOW = timedelta(minutes=10)
BOTH = (Route.PACS, Route.ARCHIVES, Route.WORKERS)
TARGETS = (
    Target(Route.PACS, "ORTHANC"),
    Target(Route.ARCHIVES, "V,NA"),
    Target(Route.WORKERS, "default"),
    Target(Route.WORKERS, "any-mr"),
)
LEFT = Query(
    "left",
    """
    SELECT substr(i.sop_instance_uid, length(%(study)s)), encode(i.sha256, 'hex'), i.conflict, i.repeats,
        i.data_set_size, d.route::text, d.priority, d.state::text, q.queue_name, q.priority,
        q.message->>'actor_name', q.message->'args' = jsonb_build_array(d.id), q.message_id = d.message_id
    FROM instances i
    LEFT JOIN deliveries d ON d.instance_id = i.id
    LEFT JOIN dramatiq.queue q ON q.delivery_id = d.id
    WHERE i.study_instance_uid = %(study)s
    ORDER BY 1, 2, 6
    """,
)

CLAIMED = Query(
    "claimed",
    "UPDATE deliveries d SET state = 'in_flight', claim_id = gen_random_uuid(), lease_until = now()"
    " FROM instances i WHERE i.id = d.instance_id AND i.sop_instance_uid = %(uid)s",
)
DELIVERED = Query(
    "delivered",
    "UPDATE deliveries d SET state = 'delivered', claim_id = NULL, lease_until = NULL, settled_at = now()"
    " FROM instances i WHERE i.id = d.instance_id AND i.sop_instance_uid = %(uid)s",
)


def received(
    root: str,
    number: int,
    digest: int,
    *,
    name: str = "",
    routes: tuple[Route, ...] = BOTH,
    kind: Kind = Kind.ORIGINAL,
) -> ReceivedInstance:
    """Return an instance of the study `root`.0 with its own priority."""
    uid = f"{root}.{number}"
    return ReceivedInstance(
        uuid4(),
        datetime.now(UTC),
        uid,
        f"{root}.0",
        f"{root}.0.1",
        "1.4",
        "1.5",
        bytes([digest]) * 32,
        number,
        "A",
        "B",
        "127.0.0.1",
        kind,
        name or f"{uid}.dcm",
        tuple(target for target in TARGETS if target.route in routes),
        number % 4,
        result_targets=TARGETS[:2],
    )


def known(root: str) -> list[ReceivedInstance]:
    """Return the instances that were received before."""
    return [received(root, number, 1) for number in (0, 3, 4, 5, 9)]


def batch(root: str) -> list[ReceivedInstance]:
    """Return new instances and one of every other verdict, in the order of their UIDs."""
    return [
        received(root, 0, 1),  # a repeat of a delivered instance
        received(root, 1, 1),
        received(root, 2, 1, routes=(Route.PACS,)),
        received(root, 3, 1),  # a repeat
        received(root, 4, 2),  # other bytes under a name that is taken
        received(root, 5, 2, name=f"{root}.5.b.dcm"),  # other bytes
        received(root, 6, 1),
        received(root, 6, 1, name=f"{root}.6.b.dcm"),  # the same bytes twice at once
        received(root, 7, 1),
        received(root, 7, 2, name=f"{root}.7.b.dcm"),  # other bytes at once
        received(root, 8, 1, routes=()),
        received(root, 9, 1, routes=(Route.PACS,), kind=Kind.RESULT),  # a result that equals its source
    ]


def comparable(kept: Sequence[RegisteredInstance], root: str) -> list[tuple[str, str, str]]:
    """Return the values that do not depend on the root and on ids."""
    return [(k.verdict.value, k.file_name.removeprefix(root), k.place.value) for k in kept]


def left(database: Database, root: str) -> list[Row]:
    """Return every row that the receptions of `root` left, without ids."""
    with database.statement() as session:
        return session.all(LEFT, study=f"{root}.0")


@pytest.fixture
def database(database_url: str) -> Database:
    """Return a migrated database."""
    return Database(database_url, application_name="test")


def test_a_batch_equals_its_instances_one_by_one(database: Database) -> None:
    """G1, G4: verdicts, names, rows, deliveries and messages are equal."""
    one_by_one, together = "1.2.1", "1.2.2"
    verdicts = {}
    for root in (one_by_one, together):
        with database.transaction() as session:
            for before in known(root):
                instances.register(session, before, window=WINDOW)
            session.run(CLAIMED, uid=f"{root}.0")
            session.run(DELIVERED, uid=f"{root}.0")
    with database.transaction() as session:
        verdicts[one_by_one] = [instances.register(session, r, window=WINDOW) for r in batch(one_by_one)]
    with database.transaction() as session:
        verdicts[together] = instances.register_many(session, batch(together), window=WINDOW)
    try:
        assert comparable(verdicts[together], together) == comparable(verdicts[one_by_one], one_by_one)
        assert {kept.verdict for kept in verdicts[together]} == set(ReceptionVerdict) - {
            ReceptionVerdict.OWED_AGAIN,
            ReceptionVerdict.OWED_IN_PART,
            ReceptionVerdict.REGISTERED,
        }
        assert left(database, together) == left(database, one_by_one)
    finally:
        database.close()


def test_a_reception_with_its_deliveries_and_messages_is_one_round_trip(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instance, deliveries and messages are one statement; the other statement is COMMIT."""
    sent = statements.noted(monkeypatch)
    with database.transaction() as session:
        instances.register_many(session, [received("1.2.3", 1, 1)], window=WINDOW)
    monkeypatch.undo()
    try:
        assert len(sent) == 2
        assert "register_reception" in sent[0]
        assert sent[1].strip().rstrip(";") == "COMMIT"
        rows = left(database, "1.2.3")
        assert sorted(str(row[5]) for row in rows) == ["archives", "pacs", "workers", "workers"]
        assert all(row[12] for row in rows), "each delivery names its message"
    finally:
        database.close()
