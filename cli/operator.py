"""Who gives an order, and the surroundings it is carried out in: configuration, database, log."""

import getpass
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from gateway import config, log
from gateway.config import Configuration
from gateway.database.dsn import dsn_from_environment
from gateway.database.pool import Database

READ_SECONDS = 30.0
"""For one statement that reads; must exceed a bounded look into a busy database."""
CHANGE_SECONDS = 600.0
"""For one statement that changes; must exceed a million deliveries that are owed again."""


def identity() -> str:
    """The login user and this host, as rows and log lines name who gave an order."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"  # a container may run under a user id without a name
    return f"{user}@{socket.gethostname()}"


@contextmanager
def opened(noun: str, *, changes: bool = False) -> Iterator[Database]:
    """The database of the environment, closed afterwards."""
    seconds = CHANGE_SECONDS if changes else READ_SECONDS
    database = Database(
        dsn_from_environment(), application_name=f"mini-pacs {noun}", size=1, deadline_seconds=seconds
    )
    try:
        yield database
    finally:
        database.close()


def configured() -> Configuration:
    """The configuration; from here on log lines of this command go where the gateway's go."""
    configuration = config.load()
    log.configure(configuration.edge.log_path, "cli")
    return configuration
