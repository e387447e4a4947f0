"""The role that the processes run as: it owns nothing, and may do what their statements do.

Two roles: the owner migrates (`mini-pacs db migrate`) and resets, the other runs everything else. Whoever
takes a process over then cannot change the schema, forget the attempts, or reach what else the server holds.
One transaction gives the privileges: if the process dies inside, the role has what it had.
"""

from gateway.database.pool import Database
from gateway.database.queries import load
from gateway.database.session import Session
from gateway.errors import SchemaError

GRANT_SECONDS = 60.0
_Q = load("roles")


def grant(dsn: str, role: str) -> None:
    """`role` may do what the processes do, and no more, as far as the gateway's tables go.

    Raises:
        SchemaError: there is no such role, or it could do more than it is granted.
        DatabaseError: PostgreSQL cannot be reached, or `dsn` is not the owner's.
    """
    database = Database(dsn, application_name="mini-pacs grant", size=1, deadline_seconds=GRANT_SECONDS)
    try:
        with database.transaction() as session:
            found = session.one(_Q["describe"], role=role)
            if found is None:
                raise SchemaError(
                    f"there is no role {role}, or no schema yet: CREATE ROLE, db migrate, db grant"
                )
            is_powerful, is_owner = found
            if is_powerful or is_owner:
                what = "has powers of its own" if is_powerful else "owns the schema, or may become its owner"
                raise SchemaError(f"role {role} {what}: grants would bound nothing")
            _give(session, role)
    finally:
        database.close()


def grant_again(session: Session) -> None:
    """Whoever had the privileges has those of the schema as it is now; called by who changed it."""
    for (role,) in session.all(_Q["granted"]):
        _give(session, role)


def _give(session: Session, role: str) -> None:
    for (statement,) in session.all(_Q["privileges"], role=role):
        session.script(statement)
