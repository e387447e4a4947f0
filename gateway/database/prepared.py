"""Let PostgreSQL keep the plans of statements that a process runs for each instance.

Parsing and planning a statement costs PostgreSQL about as much as running it. A prepared statement belongs to
a connection. It is prepared at its first use there, and run by EXECUTE from then on.

    pooler      one that hands out another connection for each transaction knows no prepared statement. So
                nothing is prepared unless this connection is PostgreSQL's own
    old plans   PostgreSQL may choose a plan when a table is small, and keep it until its statistics change.
                So these connections avoid plans that read a whole table (PREPARED_OPTIONS in connection.py)
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache

from gateway.database.queries import Query

_PARAMETER = re.compile(r"%\((\w+)\)s(::[\w.]+(?:\[\])?)?")


@dataclass(frozen=True, slots=True)
class PreparedStatement:
    """The texts of a prepared statement: one PREPARE, and the EXECUTE for psycopg2."""

    name: str
    prepare: str
    execute: str


@cache
def prepared(query: Query) -> PreparedStatement:
    """Return the texts with which `query` is prepared and executed."""
    numbers: dict[str, int] = {}
    casts: dict[str, str] = {}
    for name, cast in _PARAMETER.findall(query.sql):
        numbers.setdefault(name, len(numbers) + 1)
        # An argument has its type before it is passed: an array of text is no array of an enum.
        casts[name] = casts.get(name) or cast
    numbered = _PARAMETER.sub(lambda match: f"${numbers[match[1]]}{match[2] or ''}", query.sql)
    kept = f"{query.name}_{hashlib.sha256(query.sql.encode()).hexdigest()[:8]}"
    values = ", ".join(f"%({name})s{casts[name]}" for name in numbers)
    arguments = f"({values})" if numbers else ""
    return PreparedStatement(
        kept, f"PREPARE {kept} AS {numbered.replace('%%', '%')}", f"EXECUTE {kept} {arguments}"
    )
