"""Describe the schema of a database as the text of gateway/database/schema.sql.

The database is only read. `make schema` writes the file from a database that the migrations made; a contract
test compares both. The definitions of the functions stand in gateway/database/functions, one file each.
"""

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


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
