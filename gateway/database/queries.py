"""Read the statements of gateway/database/sql/*.sql.

Each statement begins with a line such as `-- name: claim`, and a comment on what it changes and under which
condition. `load("deliveries")` returns those of one file by name. In a statement

    {from_states:claim}   becomes the states in which gateway/domain/delivery.py allows that event
    {fragment:selection}  becomes that text of fragments.sql

so that no condition and no list of columns is written twice. `-- name: claim, prepared` marks a statement
that processes run for each instance: see gateway/database/prepared.py.
"""

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from gateway.domain.delivery import Event, from_states

_NAME = re.compile(r"^-- name: (\w+(?:, prepared)?)$", re.MULTILINE)
_FRAGMENT_NAME = re.compile(r"^-- fragment: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--[^\n]*\n", re.MULTILINE)
_FRAGMENT = re.compile(r"\{fragment:(\w+)\}")
_FROM_STATES = re.compile(r"\{from_states:(\w+)\}")


class Query(NamedTuple):
    """A named statement, ready for psycopg2."""

    name: str
    sql: str
    is_prepared: bool = False
    """Whether PostgreSQL keeps its plan, on connections that allow it."""


@cache
def load(file: str) -> dict[str, Query]:
    """Return the statements of gateway/database/sql/`file`.sql by name."""
    found = {}
    for heading, body in _parts(file, _NAME):
        name, _, word = heading.partition(", ")
        found[name] = Query(name, _complete(body), is_prepared=bool(word))
    return found


def _complete(statement: str) -> str:
    spliced = _FRAGMENT.sub(lambda match: _fragments()[match.group(1)], statement)
    return _FROM_STATES.sub(_states, spliced).strip()


@cache
def _fragments() -> dict[str, str]:
    return {
        name: _COMMENT.sub("", body.lstrip()).strip() for name, body in _parts("fragments", _FRAGMENT_NAME)
    }


def _parts(file: str, heading: re.Pattern[str]) -> list[tuple[str, str]]:
    text = files("gateway.database").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = heading.split(text)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _states(match: re.Match[str]) -> str:
    return ", ".join(f"'{state}'" for state in from_states(Event(match.group(1))))
