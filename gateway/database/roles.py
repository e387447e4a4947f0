"""The role that the processes run as: it owns nothing, and may do what their statements do.

Two roles: the owner migrates (`mini-pacs db migrate`) and resets, the other runs everything else. Whoever
takes a process over then cannot change the schema, forget the attempts, or reach what else the server holds.
One transaction gives the privileges: if the process dies inside, the role has what it had.
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


def grant(dsn: str, role: str) -> None:
    """`role` may do what the processes do, and no more, as far as the gateway's tables go.

    Raises:
        SchemaError: there is no such role, or it could do more than it is granted.
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
            _give(session, role)
    finally:
        database.close()


def grant_again(session: Session) -> None:
    """Whoever had the privileges has those of the schema as it is now; called by who changed it."""
    for role in session.values(_Q["granted"]):
        _give(session, role)


def _give(session: Session, role: str) -> None:
    for statement in session.values(_Q["privileges"], role=role):
        session.script(statement)
