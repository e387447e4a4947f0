"""Refuse a pooler in transaction mode between the actors and PostgreSQL.

Such a pooler lends the server process that holds our advisory lock to other clients. Then the lock does not
prove any more that this process is alive.
"""

from gateway.database.connection import connect
from gateway.database.session import DedicatedSession, Session
from gateway.database.tables import consumers
from gateway.errors import ConfigurationError


class PoolerError(ConfigurationError):
    """Permanent: a pooler in transaction mode stands in between; the advisory lock would prove nothing."""


def require_session_mode(dsn: str, session: Session, server_process: int, *, deadline_seconds: float) -> None:
    """Return if `session` has `server_process`, which holds its lock, for itself alone.

    To test it, a second connection opens a transaction. A pooler in transaction mode lends it the same server
    process, or gives us another one.

    Raises:
        PoolerError: the server process is shared.
        DatabaseUnavailableError: a second connection cannot be opened now.
    """
    other = connect(dsn, application_name="mini-pacs check", deadline_seconds=deadline_seconds)
    try:
        # The open transaction binds the second connection to one server process: to ours, if it is shared.
        theirs = consumers.begin_on_server_process(DedicatedSession(other))
        ours = consumers.server_process(session)
    finally:
        other.close()
    if ours != server_process or theirs == ours:
        raise PoolerError(
            "PostgreSQL is reached through a pooler in transaction mode: the queue's advisory lock would "
            "be lost. Point the actors' DATABASE_URL at PostgreSQL itself, or at a pool in session mode."
        )
