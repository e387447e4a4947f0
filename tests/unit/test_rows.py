"""Rows are read by the names of their columns, and what does not fit is an error that names it."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest

from gateway.database.queries import Query, load
from gateway.database.rows import known, learn
from gateway.domain.routing import Route


@dataclass(frozen=True, slots=True)
class Point:
    """Something that stands in two columns."""

    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Thing:
    """A row with everything that a type converts."""

    name: str
    route: Route | None
    tags: tuple[str, ...]
    point: Point
    note: str = "none"


class Pair(NamedTuple):
    """A row that is also a tuple."""

    first: int
    second: Route


def query(name: str) -> Query:
    """Return a statement of that name, unlike any other."""
    return Query(name, f"SELECT {name}")


def test_columns_are_found_by_name_in_any_order() -> None:
    """An enum, an array and a dataclass inside are converted; a field with a default needs no column."""
    make = learn(Thing, query("any_order"), ["y", "tags", "route", "x", "name"])
    assert make((2, ["a", "b"], "pacs", 1, "n")) == Thing("n", Route.PACS, ("a", "b"), Point(1, 2))


def test_a_null_stays_none() -> None:
    """No enum is made of it."""
    make = learn(Thing, query("null"), ["name", "route", "tags", "x", "y", "note"])
    assert make(("n", None, [], 1, 2, "seen")) == Thing("n", None, (), Point(1, 2), "seen")


def test_the_columns_of_an_inner_dataclass_may_have_its_name_in_front() -> None:
    """So that two of one class fit into a row."""
    make = learn(Thing, query("prefix"), ["name", "route", "tags", "point.x", "point.y"])
    assert make(("n", "pacs", [], 1, 2)).point == Point(1, 2)


def test_a_named_tuple_is_made_too() -> None:
    """It equals the plain tuple."""
    assert learn(Pair, query("pair"), ["second", "first"])(("pacs", 1)) == (1, Route.PACS)


def test_what_was_learned_is_kept() -> None:
    """For this class and this statement only."""
    one = query("kept")
    make = learn(Point, one, ["x", "y"])
    assert known(Point, one) is make
    assert known(Thing, one) is None
    assert known(Point, query("another")) is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            ["x"],
            "statement odd does not fit Point: fields without a column: y; columns without a field: none",
        ),
        (["x", "y", "z"], "fields without a column: none; columns without a field: z"),
        (["x", "x"], "two columns have one name: x, x"),
    ],
)
def test_a_statement_that_does_not_fit_is_refused(columns: list[str], message: str) -> None:
    """The error names the statement, the class, and each column or field."""
    with pytest.raises(TypeError, match=message):
        learn(Point, query("odd"), columns)


def test_fragments_are_spliced_into_the_statements() -> None:
    """No statement reaches PostgreSQL with a mark in it, or with the comment of a fragment."""
    claim = load("deliveries")["claim"].sql
    assert "i.sop_instance_uid, i.study_instance_uid" in claim
    assert "The columns of" not in claim
    for file in ("deliveries", "instances", "sweep"):
        assert not any("{" in query.sql.replace("'{}'", "") for query in load(file).values())
