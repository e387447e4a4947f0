"""Health checks of the edge's containers; print the reason and exit with 1 if the container is not healthy.

    healthy.py edge           the SCP answers C-ECHO; with TLS, it accepts a connection
    healthy.py actors QUEUE   an actor process of this container serves QUEUE and holds its lock in PostgreSQL
    healthy.py scheduler      the sweep ran in the last minutes, or no process serves its queue
    healthy.py metrics        the exporter answers; also while PostgreSQL is away
    healthy.py console        the console answers; also while PostgreSQL is away

docker-compose.yml runs the checks every 20 to 30 s, so each imports only what it needs. With PostgreSQL away
`edge` is healthy, because it receives; the others are not.
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
"""The scheduler enqueues a sweep each minute; this must exceed the duration of a slow one."""
ANSWER_SECONDS = 4.0
"""Must be less than the timeout of the check in docker-compose.yml; otherwise the reason is lost."""


def edge() -> str | None:
    """Return None if the SCP answers; a rejection for lack of disk, database or associations is an answer."""
    import yaml
    from c_echo import NotHealthyError, RejectedError, c_echo, connect

    # Read as plain YAML, because the SCP has validated the file, and validation needs a third of a second.
    settings = yaml.safe_load(Path(os.environ["MINI_PACS_CONFIG"]).read_text(encoding="utf-8"))["edge"]
    host, port = _reached_at(settings.get("bind_address", "")), settings.get("port", 11112)
    # The SCP does not accept an AE title with an address (TITLE@ADDRESS) from here. If all titles have one, a
    # rejection is expected.
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
    """Return the address at which the SCP is reached from its own container."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind_address, bind_address)  # noqa: S104


def actors(queue: str) -> str | None:
    """Return None if a process of this container serves the queue and holds its lock in PostgreSQL."""
    from gateway.database.tables import queues

    with _database() as database, database.statement() as session:
        found = queues.consumers(session)
    host = socket.gethostname()
    if any(one.alive and one.host == host and queue in one.queue_names for one in found):
        return None
    return f"not healthy: no process of {host} serves the queue {queue}"


def scheduler() -> str | None:
    """Return None if sweeps run, or if no process serves their queue, which is no fault of the scheduler."""
    from gateway.database.tables.overview import overview

    with _database() as database, database.transaction() as session:
        view = overview(session)
    served = any(one.alive and "sweep" in one.queue_names for one in view.consumers)
    last = max((run.ran_at for run in view.sweeps), default=None)
    if not served or (last is not None and last > view.now - SWEEP_LATE):
        return None
    return f"not healthy: the sweep ran last at {last}"


def metrics() -> str | None:
    """Return None if the exporter answers."""
    import urllib.request

    import yaml

    settings = yaml.safe_load(Path(os.environ["MINI_PACS_CONFIG"]).read_text(encoding="utf-8"))
    port = (settings.get("metrics") or {}).get("port", 9112)
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=ANSWER_SECONDS).close()
    except OSError as error:
        return f"not healthy: {error}"
    return None


def console() -> str | None:
    """Return None if the console answers; with TLS, if it accepts a connection."""
    import urllib.request

    import yaml

    settings = yaml.safe_load(Path(os.environ["MINI_PACS_CONFIG"]).read_text(encoding="utf-8"))
    section = settings.get("console") or {}
    port = section.get("port", 8080)
    try:
        if section.get("tls"):
            socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS).close()
        else:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=ANSWER_SECONDS).close()
    except OSError as error:
        return f"not healthy: {error}"
    return None


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
    """Return None if the container is healthy, else the reason."""
    from gateway.errors import GatewayError

    checks = {"edge": edge, "scheduler": scheduler, "metrics": metrics, "console": console}
    try:
        match words:
            case ["actors", queue]:
                return actors(queue)
            case [name] if name in checks:
                return checks[name]()
    except GatewayError as error:
        return f"not healthy: {error}"
    return __doc__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
