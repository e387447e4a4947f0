"""Statements whose plans PostgreSQL keeps: on which connections, and within which transaction."""

from collections.abc import Iterator

import pytest

from gateway.database import connection as connections
from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.errors import DatabaseRefusedError

ADD = Query("add", "SELECT %(a)s::integer + %(b)s::integer + %(a)s::integer", is_prepared=True)
PLAIN = Query("plain", "SELECT %(a)s::integer")
DURABLE = Query("durable", "SELECT current_setting('synchronous_commit')", is_prepared=True)
TEXT = Query("text", "SELECT %(a)s::text")
NAMES = Query("names", "SELECT name FROM pg_prepared_statements")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Yield a database of one connection that prepares."""
    database = Database(database_url, application_name="test", size=1, prepares=True)
    yield database
    database.close()


def test_a_statement_is_prepared_once_for_each_connection(database: Database) -> None:
    """A parameter may occur twice; the statements that are not marked are sent as they are."""
    for a in range(3):
        with database.statement() as session:
            assert session.value(ADD, a=a, b=10) == 2 * a + 10
    with database.statement() as session:
        assert session.value(PLAIN, a=1) == 1
        assert [name.partition("_")[0] for name in session.values(NAMES)] == ["add"]


def test_the_statements_before_it_belong_to_its_transaction(database: Database) -> None:
    """Also when it is prepared just now: what prepares it is sent before."""
    for _ in range(2):
        with database.statement(durable=False) as session:
            assert session.value(DURABLE) == "off"
        with database.transaction(before="SET LOCAL synchronous_commit TO local;") as session:
            assert session.value(DURABLE) == "local"


def test_a_statement_prepared_in_a_transaction_survives_its_rollback(database: Database) -> None:
    """Prepared statements are no part of a transaction."""
    with database.transaction() as session:
        session.value(PLAIN, a=1)
        session.value(ADD, a=1, b=1)
        session.script("ROLLBACK")
    with database.statement() as session:
        assert session.value(ADD, a=1, b=2) == 4


def test_nothing_is_prepared_behind_a_pooler(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler tells its clients another number than that of the server process."""

    class Info:
        backend_pid = -1

    monkeypatch.setattr(connections.Connection, "info", Info(), raising=False)
    monkeypatch.setattr(Database, "_give_back", lambda *_, **__: None)
    with database.statement() as session:
        assert session.value(ADD, a=1, b=1) == 3
        assert session.values(NAMES) == []


def test_other_connections_prepare_nothing(database_url: str) -> None:
    """Commands run a statement once."""
    database = Database(database_url, application_name="test", size=1)
    with database.statement() as session:
        assert session.value(ADD, a=1, b=1) == 3
        assert session.values(NAMES) == []
    database.close()


@pytest.mark.parametrize("value", ["a\0b", "\ud800", {"a": 1}, object()])
def test_what_was_not_sent_goes_with_the_next_statement(database: Database, value: object) -> None:
    """A value that psycopg2 cannot send is refused; the savepoint before it is made all the same."""
    with database.transaction() as session:
        session.value(PLAIN, a=1)
        session.add_to_next("SAVEPOINT before;")
        with pytest.raises(DatabaseRefusedError):
            session.value(TEXT, a=value)
        session.script("ROLLBACK TO SAVEPOINT before")
        assert session.value(PLAIN, a=2) == 2
