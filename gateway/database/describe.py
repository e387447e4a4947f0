"""Describe the schema of a database as the text of gateway/database/schema.sql.

The database is only read. `make schema` writes the file from a database that the migrations made; a contract
test compares both. The definitions of the functions stand in gateway/database/functions, one file each.
"""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session

_Q = load("describe")
_HEADER = "-- The schema that the migrations make. Written by `make schema`; do not edit.\n"


class Function(NamedTuple):
    """A SQL function: its name, its line in schema.sql, and its whole definition as PostgreSQL prints it."""

    name: str
    line: str
    definition: str


def functions(session: Session) -> list[Function]:
    """Return the functions of a database by name and arguments."""
    return session.rows(Function, _Q["functions"])


def function_files() -> dict[str, str]:
    """Return the text of each file of gateway/database/functions by the name of its function."""
    folder = files("gateway.database").joinpath("functions")
    return {
        entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    }


def schema(session: Session) -> str:
    """Return the schema of a database: enums, sequences, views, tables and the names of the functions."""
    parts = [_HEADER]
    parts += [_text(session.values(query)) for query in (_Q["enums"], _Q["sequences"], _Q["views"])]
    for table in session.values(_Q["tables"]):
        lines = [
            *session.values(_Q["columns"], table=table),
            *session.values(_Q["constraints"], table=table),
            *session.values(_Q["indexes"], table=table),
            *session.values(_Q["triggers"], table=table),
        ]
        parts.append(_text([f"table {table}", *(f"    {line}" for line in lines)]))
    parts.append(_text([function.line for function in functions(session)]))
    return "\n".join(parts)


class Object(NamedTuple):
    """A constraint, index, trigger or function; `tbl` is its table, empty for a function."""

    kind: str
    tbl: str
    name: str


_OBJECT = re.compile(r"    (constraint|CREATE INDEX|CREATE UNIQUE INDEX|CREATE TRIGGER) (\S+) ")
_FUNCTION = re.compile(r"function ([\w.]+)\(")


def objects(session: Session) -> set[Object]:
    """Return the constraints, valid indexes, enabled triggers and functions that a database has."""
    return set(session.rows(Object, _Q["objects"]))


def expected_objects() -> dict[Object, str]:
    """Return the objects that the migrations make, each with its statement; a function has an empty one."""
    text = files("gateway.database").joinpath("schema.sql").read_text(encoding="utf-8")
    return dict(_expected(text))


def _expected(text: str) -> Iterator[tuple[Object, str]]:
    table = ""
    for line in text.splitlines():
        if line.startswith("table "):
            table = line.removeprefix("table ")
        elif found := _OBJECT.match(line):
            kind, name = found[1].rpartition(" ")[2].lower(), found[2]
            statement = line.strip()
            if kind == "constraint":
                statement = f"ALTER TABLE {table} ADD CONSTRAINT {statement.removeprefix('constraint ')}"
            yield Object(kind, table, name), statement
        elif found := _FUNCTION.match(line):
            yield Object("function", "", found[1]), ""


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
