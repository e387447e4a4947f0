"""Who runs the command, and with which configuration, database and log.

The model of the configuration is imported only if a command needs it, because the import doubles the time of
a command that only reads rows.
"""

import getpass
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway import log
from gateway.database.dsn import dsn_from_environment
from gateway.database.pool import Database
from gateway.database.tables import activity
from gateway.database.tables.activity import Operator, Via

if TYPE_CHECKING:
    from gateway.config import Configuration
    from gateway.spool.identity import SpoolIdentity

READ_SECONDS = 30.0
"""Limit of one statement that reads; must exceed the slowest one on a busy database."""
CHANGE_SECONDS = 600.0
"""Limit of one statement that changes rows; must exceed a retry of a million deliveries."""


def operator() -> Operator:
    """Return who runs the command, and on which host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"  # a container may run under a user id without a name
    return Operator(user, Via.CLI, socket.gethostname())


def identity() -> str:
    """Return user@host, which rows and log lines store as the caller of a command."""
    return operator().text


def record(database: Database, verb: str, target: str, outcome: str, *, count: int | None = None) -> None:
    """Add a row to the record of what operators did, after a command that used many transactions."""
    with database.transaction() as session:
        activity.record(session, operator(), verb, target, count=count, outcome=outcome)


@contextmanager
def opened(
    noun: str, *, changes: bool = False, identity: "SpoolIdentity | None" = None
) -> Iterator[Database]:
    """Open the database that the environment names; close it at the end of the `with` block.

    With `identity` it must belong to that spool; see gateway/database/pool.py.
    """
    seconds = CHANGE_SECONDS if changes else READ_SECONDS
    database = Database(
        dsn_from_environment(),
        application_name=f"mini-pacs {noun}",
        size=2,  # purging makes settles durable beside its transaction
        deadline_seconds=seconds,
        guard=None if identity is None else identity.check,
    )
    try:
        yield database
    finally:
        database.close()


def configured() -> "Configuration":
    """Load the configuration; write the log lines of this command into the log of the edge."""
    from gateway import config  # noqa: PLC0415  see above

    configuration = config.load()
    log.configure(configuration.edge.log_path, "cli")
    return configuration
