"""Give the role of the processes the privileges that their statements need, and no others.

The owner migrates (`mini-pacs db migrate`) and resets; another role runs everything else. So an attacker who
controls a process cannot change the schema, delete attempts, or read other databases of the server. The
console may have a role of its own, which also reads and changes the accounts of the console. The privileges
are given in one transaction: if the process dies during it, the role keeps its old ones.
"""

from typing import NamedTuple

from gateway.database.pool import Database
from gateway.database.queries import load
from gateway.database.session import Session
from gateway.errors import SchemaError

GRANT_SECONDS = 60.0
_Q = load("roles")


class _Powers(NamedTuple):
    is_powerful: bool
    is_owner: bool


class _Granted(NamedTuple):
    role: str
    console: bool


def grant(dsn: str, role: str, *, console: bool = False) -> None:
    """Give `role` the privileges of the processes on the edge's tables, and take back all others.

    With `console` it gets those of the console.

    Raises:
        SchemaError: there is no such role, or it has powers that no grant limits.
        DatabaseError: PostgreSQL cannot be reached, or `dsn` is not the owner's.
    """
    database = Database(dsn, application_name="mini-pacs grant", size=1, deadline_seconds=GRANT_SECONDS)
    try:
        with database.transaction() as session:
            found = session.row(_Powers, _Q["describe"], role=role)
            if found is None:
                raise SchemaError(
                    f"there is no role {role}, or no schema yet: CREATE ROLE, db migrate, db grant"
                )
            if found.is_powerful:
                raise SchemaError(f"role {role} has powers of its own: grants would not limit it")
            if found.is_owner:
                raise SchemaError(
                    f"role {role} owns the schema, or may become its owner: grants would not limit it"
                )
            _give(session, role, console=console)
    finally:
        database.close()


def grant_again(session: Session) -> None:
    """Extend the privileges of each role that has them to the changed schema; call it after migrations."""
    for one in session.rows(_Granted, _Q["granted"]):
        _give(session, one.role, console=one.console)


def _give(session: Session, role: str, *, console: bool) -> None:
    for statement in session.values(_Q["privileges"], role=role, console=console):
        session.script(statement)
