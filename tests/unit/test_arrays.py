"""The text of an array: PostgreSQL reads the values that psycopg2 would have sent."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from gateway.database.arrays import array_text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "{}"),
        (["1.2.3", ""], '{"1.2.3",""}'),
        (['a "b"', "c\\d", "{,}", "NULL"], '{"a \\"b\\"","c\\\\d","{,}","NULL"}'),
        (["a", None], '{"a",NULL}'),
        ([1, -2], "{1,-2}"),
        ([1.5, float("inf")], "{1.5,inf}"),
        ([timedelta(days=-1, microseconds=5)], '{"-1 days 0.000005 s"}'),
        ([True, False], "{True,False}"),
        ([b"\x00\xff"], '{"\\\\x00ff"}'),
        ([UUID(int=1)], '{"00000000-0000-0000-0000-000000000001"}'),
        ([datetime(2026, 11, 29, 1, 2, 3, 4, tzinfo=UTC)], '{"2026-11-29 01:02:03.000004+00:00"}'),
    ],
)
def test_the_text_of_an_array(values: list[object], text: str) -> None:
    """Every type that statements use is written as PostgreSQL reads it."""
    assert array_text(values) == text


@pytest.mark.parametrize("values", [[["1"], ["2"]], [{"a": 1}], [b"a", object()]])
def test_other_values_are_left_to_psycopg2(values: list[object]) -> None:
    """It writes them, or says that it cannot."""
    assert array_text(values) is values
