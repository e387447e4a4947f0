"""Reads gateway/database/sql/*.sql: each statement has a name and a sentence on its transition and guard.

A file holds statements that begin with `-- name: claim_delivery`. `load("deliveries")` returns them by
name; `{from_states:claim}` in a statement becomes the states in which the domain allows that event,
so that no guard is written twice.
"""

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from gateway.domain.delivery import Event, from_states

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_FROM_STATES = re.compile(r"\{from_states:(\w+)\}")


class Query(NamedTuple):
    """A named statement, ready for psycopg2."""

    name: str
    sql: str


@cache
def load(file: str) -> dict[str, Query]:
    """The statements of gateway/database/sql/`file`.sql by name."""
    text = files("gateway.database").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    return {
        name: Query(name, _FROM_STATES.sub(_states, body).strip())
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def _states(match: re.Match[str]) -> str:
    return ", ".join(f"'{state}'" for state in from_states(Event(match.group(1))))
