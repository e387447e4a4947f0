"""dramatiq.send, Dramatiq's own message format and dramatiq-pg's table agree."""

import json
import time
from importlib.resources import files

import pytest
from dramatiq import Message

from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.database.tables import messages
from gateway.domain.contract import UNGATED_PRIORITY
from gateway.domain.routing import BEHIND, PRIORITY

COLUMNS = Query(
    "columns",
    """
    SELECT column_name, udt_name FROM information_schema.columns
    WHERE table_schema = 'dramatiq' AND table_name = 'queue'
    """,
)
CONSTRAINT = Query(
    "constraint", "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'queue_priority'"
)


@pytest.fixture
def database(database_url: str) -> Database:
    """Return a migrated database."""
    return Database(database_url, application_name="test", size=1)


def test_dramatiq_decodes_what_sql_sends(database: Database) -> None:
    """Message.decode reads it, and encodes it to the same document."""
    with database.transaction() as session:
        message_id = messages.send(session, "pacs", "forward_to_pacs", [42, "x"], priority=0, delivery_id=42)
        [(text,)] = session.all(Query("text", "SELECT message::text FROM dramatiq.queue"))
    message: Message[object] = Message.decode(text.encode())
    assert (message.message_id, message.queue_name, message.actor_name, message.args, message.kwargs) == (
        message_id,
        "pacs",
        "forward_to_pacs",
        (42, "x"),
        {},
    )
    assert abs(message.message_timestamp - time.time() * 1000) < 60_000
    assert json.loads(message.encode()) == json.loads(text)
    database.close()


def test_the_table_has_every_column_of_dramatiq_pg(database: Database) -> None:
    """Its schema.sql names the columns; ours keep their types."""
    with database.statement() as session:
        ours = {str(name): str(kind) for name, kind in session.all(COLUMNS)}
    theirs = files("dramatiq_pg").joinpath("schema.sql").read_text(encoding="utf-8")
    types = {"uuid": "uuid", "text": "text", "timestamp": "timestamptz", "jsonb": "jsonb"}
    lines = theirs.partition(':"queue"(')[2].partition(") WITHOUT OIDS")[0].splitlines()
    for line in filter(None, map(str.strip, lines)):
        if line.startswith("--"):
            continue
        name, kind = line.replace('"', "").split()[:2]
        assert ours[name] == ("state" if name == "state" else types[kind.lower().rstrip(",")])
    database.close()


def test_every_priority_of_the_domain_is_one_of_the_queue(database: Database) -> None:
    """The claim reads priorities -1 to 7; the table refuses any other, since its message would never run."""
    with database.statement() as session:
        row = session.one(CONSTRAINT)
    assert row == ("CHECK (((priority >= '-1'::integer) AND (priority <= 7)))",)
    assert all(-1 <= priority <= 7 for priority in (*PRIORITY.values(), BEHIND, UNGATED_PRIORITY))
    database.close()
