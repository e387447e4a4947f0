"""Health checks of the gateway's containers; exit code 1, and why, where the answer is no.

    healthy.py edge           the SCP answers C-ECHO; with TLS, it takes a connection
    healthy.py actors QUEUE   an actor process of this container serves QUEUE, by its lock in PostgreSQL
    healthy.py scheduler      the sweep ran within the last minutes, or waits to be run

They run every few seconds, so each imports no more than its question needs.
"""

import os
import socket
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.database.pool import Database

SWEEP_LATE = timedelta(minutes=3)
"""The scheduler enqueues a sweep each minute; must exceed a slow one."""
ANSWER_SECONDS = 4.0
"""Must be less than the timeout of the check in docker-compose.yml, or nobody reads the reason."""


def edge() -> str | None:
    """None where the SCP answers; that it has no room now, on its disk or for associations, is an answer."""
    import yaml
    from c_echo import NotHealthyError, RejectedError, c_echo, connect

    # As plain YAML: the SCP has validated the file, and the model costs a third of a second each time.
    settings = yaml.safe_load(Path(os.environ["MINI_PACS_CONFIG"]).read_text(encoding="utf-8"))["edge"]
    host, port = _reached_at(settings.get("bind_address", "")), settings.get("port", 11112)
    # A title with an address behind it is not let in from here: a rejection says, too, that the SCP lives.
    titles = [title for title in settings["allowed_calling_aets"] if "@" not in title]
    try:
        if settings.get("tls"):
            connect(host, port).close()
        else:
            c_echo(host, port, calling=titles[0] if titles else "HEALTHY", called=settings["ae_title"])
    except RejectedError as rejection:
        return f"not healthy: {rejection}" if titles and not rejection.is_transient else None
    except (NotHealthyError, OSError) as error:
        return f"not healthy: {error}"
    return None


def _reached_at(bind_address: str) -> str:
    """Where an SCP that listens on this address is reached from its own container."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind_address, bind_address)  # noqa: S104


def actors(queue: str) -> str | None:
    """None where PostgreSQL sees the lock of a process of this container that serves the queue."""
    from gateway.database.tables import messages

    with _database() as database, database.statement() as session:
        found = messages.consumers(session)
    host = socket.gethostname()
    if any(one.alive and one.host == host and queue in one.queue_names for one in found):
        return None
    return f"not healthy: no process of {host} serves the queue {queue}"


def scheduler() -> str | None:
    """None where sweeps are run; or where nobody serves their queue, which is not the scheduler's fault."""
    from gateway.database.tables.overview import overview

    with _database() as database, database.transaction() as session:
        view = overview(session)
    served = any(one.alive and "sweep" in one.queue_names for one in view.consumers)
    last = max((run.ran_at for run in view.sweeps), default=None)
    if not served or (last is not None and last > view.now - SWEEP_LATE):
        return None
    return f"not healthy: the sweep ran last at {last}"


@contextmanager
def _database() -> "Iterator[Database]":
    from gateway.database.dsn import dsn_from_environment
    from gateway.database.pool import Database

    database = Database(
        dsn_from_environment(), application_name="mini-pacs healthy", size=1, deadline_seconds=ANSWER_SECONDS
    )
    try:
        yield database
    finally:
        database.close()


def main(words: list[str]) -> str | None:
    """None where the answer is yes, else why it is no."""
    from gateway.errors import GatewayError

    try:
        match words:
            case ["edge"]:
                return edge()
            case ["actors", queue]:
                return actors(queue)
            case ["scheduler"]:
                return scheduler()
    except GatewayError as error:
        return f"not healthy: {error}"
    return __doc__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
