"""Refuses a pooler in transaction mode between the actors and PostgreSQL.

It lends the server process that took our lock to whoever asks next, and with it the proof that we live.
"""

from gateway.database.connection import connect
from gateway.database.session import DedicatedSession, Session
from gateway.database.tables import consumers
from gateway.errors import ConfigurationError


class PoolerError(ConfigurationError):
    """Permanent: a pooler in transaction mode stands in between, which gives the lock to a stranger."""


def require_session_mode(dsn: str, session: Session, server_process: int, *, deadline_seconds: float) -> None:
    """Return if `session` keeps `server_process`, which took its lock, to itself.

    A second connection's open transaction takes it away from us here, if it can.

    Raises:
        PoolerError: the server process is not ours alone.
        DatabaseUnavailableError: there is no second connection just now.
    """
    other = connect(dsn, application_name="mini-pacs check", deadline_seconds=deadline_seconds)
    try:
        # Its transaction keeps it on one server process: on ours, where one is lent around.
        theirs = consumers.begin_on_server_process(DedicatedSession(other))
        ours = consumers.server_process(session)
    finally:
        other.close()
    if ours != server_process or theirs == ours:
        raise PoolerError(
            "PostgreSQL is reached through a pooler in transaction mode: the queue's advisory lock would "
            "be lost. Point the actors' DATABASE_URL at PostgreSQL itself, or at a pool in session mode."
        )
