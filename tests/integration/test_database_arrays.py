"""Lists as parameters: PostgreSQL gets the values, whatever is in them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.errors import DatabaseRefusedError

TEXTS = Query("texts", "SELECT unnest(%(values)s::text[])")
KEPT = Query("kept_texts", "SELECT unnest(%(values)s::text[])", is_prepared=True)
OF_A_TYPE: dict[str, list[Any]] = {
    "integer": [1, -2, None],
    "boolean": [True, False, None],
    "bytea": [b"", b"\x00'\"\\\xff", None],
    "uuid": [uuid4(), None],
    "timestamptz": [
        datetime(2026, 11, 29, 1, 2, 3, 4, tzinfo=UTC),
        datetime(2026, 11, 29, tzinfo=timezone(timedelta(hours=-5))),
        None,
    ],
    "float": [1.5, -0.25, float("inf"), None],
    "interval": [timedelta(days=-3, seconds=7, microseconds=5), timedelta(0, 86399, 999999), None],
    "numeric": [Decimal("1.50"), None],
}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Yield a database."""
    database = Database(database_url, application_name="test", size=1, prepares=True)
    yield database
    database.close()


def test_every_text_arrives_as_it_was(database: Database) -> None:
    """Quotes, backslashes, braces, commas, blanks, NULL as a word and as a value."""

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
    def check(values: list[str | None]) -> None:
        with database.statement() as session:
            assert session.values(TEXTS, values=values) == values
            assert session.values(KEPT, values=values) == values

    check()


@pytest.mark.parametrize("name", OF_A_TYPE)
def test_every_type_arrives_as_it_was(database: Database, name: str) -> None:
    """Also those that are left to psycopg2."""
    values = OF_A_TYPE[name]
    with database.statement() as session:
        found = session.values(Query(name, f"SELECT unnest(%(values)s::{name}[])"), values=values)
    assert [bytes(one) if isinstance(one, memoryview) else one for one in found] == [
        str(one) if name == "uuid" and one is not None else one for one in values
    ]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_text_that_postgresql_cannot_hold_is_refused(database: Database, text: str) -> None:
    """Nothing is sent, and the connection goes on."""
    with database.statement() as session, pytest.raises(DatabaseRefusedError, match="takes no such text"):
        session.values(TEXTS, values=[text])
    with database.statement() as session:
        assert session.values(TEXTS, values=["a"]) == ["a"]
