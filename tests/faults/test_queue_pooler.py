"""A pooler between the actors and PostgreSQL: in transaction mode it is refused at the start."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from launcher import Processes
from queue_bed import QueueBed

from gateway.lab.layout import free_ports
from gateway.lab.postgres import EmbeddedPostgres
from gateway.store.migrate import migrate

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
    """A folder that pgbouncer can read, whoever runs it."""
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (Debian: pgbouncer)")
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_in_transaction_mode_is_refused_at_start(
    mode: str, own_postgres: EmbeddedPostgres, processes: Processes, folder: Path
) -> None:
    """It would give the advisory lock to a stranger; in session mode a pooler is harmless."""
    own_postgres._port, listen = free_ports(2)
    own_postgres.start()
    direct = own_postgres.dsn()
    migrate(direct)
    parts = urlsplit(direct)
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(
            port=parts.port, user=parts.username, password=parts.password, listen=listen, mode=mode
        )
    )
    assert PGBOUNCER is not None
    privileges = ["-u", "nobody"] if os.getuid() == 0 else []
    processes.start(PGBOUNCER, *privileges, str(settings)).wait_for_port(listen)
    bed = QueueBed(direct, processes)
    process = bed.launch(dsn=f"postgresql://{parts.username}@127.0.0.1:{listen}/mini_pacs")
    if mode == "transaction":
        process.wait_for_line("PostgreSQL is reached through a pooler in transaction mode", 30)
        assert process.wait(30) != 0
    else:
        process.wait_for_line("ready for action", 30)
        bed.send("noop", 1)
    bed.close()
