"""A pooler between the actors and PostgreSQL: in transaction mode it is refused at the start."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.launcher import Processes
from support.queue_setup import QueueSetup
from support.waiting import wait_until

from gateway.database.migrate import migrate
from gateway.lab.layout import free_ports
from gateway.lab.postgres import EmbeddedPostgres

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

SETTINGS = """
[databases]
mini_pacs = host=127.0.0.1 port={port} dbname=mini_pacs user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
ignore_startup_parameters = options,extra_float_digits
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that pgbouncer can read under any user."""
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (Debian: pgbouncer)")


@pytest.fixture
def direct(own_postgres: EmbeddedPostgres) -> str:
    """Return the DSN of a migrated PostgreSQL of this test alone, on TCP."""
    [own_postgres._port] = free_ports(1)
    own_postgres.start()
    migrate(own_postgres.dsn())
    return own_postgres.dsn()


def through_pooler(direct: str, mode: str, processes: Processes, folder: Path) -> str:
    """Return the DSN of a pgbouncer in that mode, in front of that PostgreSQL."""
    parts = urlsplit(direct)
    [listen] = free_ports(1)
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(
            port=parts.port, user=parts.username, password=parts.password, listen=listen, mode=mode
        )
    )
    assert PGBOUNCER is not None
    privileges = ["-u", "nobody"] if os.getuid() == 0 else []
    processes.start(PGBOUNCER, *privileges, str(settings)).wait_for_port(listen)
    return f"postgresql://{parts.username}@127.0.0.1:{listen}/mini_pacs"


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_in_transaction_mode_is_refused_at_start(
    mode: str, direct: str, processes: Processes, folder: Path
) -> None:
    """Another client would get the advisory lock; a pooler in session mode is accepted."""
    queue = QueueSetup(direct, processes)
    process = queue.launch(dsn=through_pooler(direct, mode, processes, folder))
    if mode == "transaction":
        process.wait_for_line("PostgreSQL is reached through a pooler in transaction mode", 30)
        assert process.wait(30) != 0
    else:
        process.wait_for_line("ready for action", 30)
        queue.send("noop", 1)
        wait_until(lambda: queue.count() == 0, 10, "it to run")
    queue.close()


def test_a_pooler_that_starts_before_postgresql_is_refused_once_it_answers(
    own_postgres: EmbeddedPostgres, direct: str, processes: Processes, folder: Path
) -> None:
    """This is the usual order of a start: no message is claimed through it, and the process ends."""
    queue = QueueSetup(direct, processes)
    queue.send("note", 1)
    own_postgres.kill()
    process = queue.launch(dsn=through_pooler(direct, "transaction", processes, folder))
    process.wait_for_line("ready for action", 30)
    own_postgres.start()
    process.wait_for_line("PostgreSQL is reached through a pooler in transaction mode", 30)
    process.wait(30)
    queue.database.close()
    assert queue.count("state = 'queued'") == 1
    queue.close()
