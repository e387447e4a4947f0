"""PostgreSQL shares a small disk with the spool: what was received while it was away still fits."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Reconfigure
from support.edge_setup import EdgeSetup, store
from support.launcher import Processes
from support.peers import peer
from support.synthetic_instances import Instance, new_uid
from support.waiting import wait_until

from gateway.database.migrate import migrate
from gateway.errors import AssociationRejectedError, GatewayError
from gateway.lab.layout import free_ports
from gateway.lab.postgres import DATABASE, EmbeddedPostgres
from gateway.register.unregistered import backlog

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G6")]

MEGABYTE = 1 << 20
RESERVE_MB = 64
ROOM_MB = 6
"""What senders may fill, before the edge refuses: the files, and 8 KiB a reception for PostgreSQL."""
SECONDS = 120.0


@pytest.fixture
def disk() -> Iterator[Path]:
    """Yield a file system of 256 MiB, below a folder that PostgreSQL's user can enter."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    with tempfile.TemporaryDirectory(prefix="mini-pacs-disk-") as name:
        root = Path(name)
        root.chmod(0o711)
        mount = ["mount", "-t", "tmpfs", "-o", "size=256m,mode=0711", "tmpfs", str(root)]
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            pytest.skip(f"this root may not mount: {made.stderr.strip()}")
        try:
            yield root
        finally:
            subprocess.run(["umount", "--lazy", root], check=True)


@pytest.fixture
def postgres_on_disk(disk: Path) -> Iterator[EmbeddedPostgres]:
    """Yield a running, migrated PostgreSQL whose data is on that disk."""
    [port] = free_ports(1)
    server = EmbeddedPostgres(disk / "postgres", port=port)
    try:
        server.start()
        server.create_database(DATABASE)
        migrate(server.dsn())
        yield server
    finally:
        server.remove()


@pytest.fixture
def edge(
    disk: Path,
    postgres_on_disk: EmbeddedPostgres,
    reconfigure: Reconfigure,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[EdgeSetup]:
    """Yield an edge whose spool is on that disk, too; only the PACS gets instances."""
    monkeypatch.setenv("DATABASE_URL", postgres_on_disk.dsn())
    configuration = reconfigure(
        {
            "edge": {
                "data_root": str(disk / "spool"),
                "disk_reserve_mb": RESERVE_MB,
                "commit_timeout_seconds": 2.0,
            },
            "forwarder": {"mode": "pacs_only"},
        }
    )
    edge = EdgeSetup(configuration, postgres_on_disk.dsn(), processes)
    edge.identity.recognize(edge.database)
    edge.identity.mark(edge.database)  # a spool that is not known receives nothing
    yield edge
    edge.kill()
    edge.close()


def test_the_reserve_keeps_what_postgresql_needs_to_register_everything(
    disk: Path, postgres_on_disk: EmbeddedPostgres, edge: EdgeSetup
) -> None:
    """Senders fill the disk while PostgreSQL is away. They are refused before its rows no longer fit.

    The refusal says how much of the reserve is PostgreSQL's. When PostgreSQL is back, all is registered and
    sent, and senders are admitted again.
    """
    edge.serve()
    postgres_on_disk.kill()
    free = edge.spool.free_bytes()
    (disk / "filler").write_bytes(bytes(free - (RESERVE_MB + ROOM_MB) * MEGABYTE))
    taken = _send_until_refused(edge)
    assert len(taken) > 50
    detail = edge.wait_log(outcome="rejected")["detail"]
    assert f"less than edge.disk_reserve_mb ({RESERVE_MB})" in detail
    assert "MiB for what PostgreSQL has not registered" in detail
    postgres_on_disk.start()
    wait_until(lambda: backlog(edge.spool, 1).count == 0, SECONDS, "all to be registered")
    with peer(edge.configuration.forwarder.orthanc.port) as pacs:
        edge.actors("pacs")
        pacs.wait_for(*(one.sop_instance_uid for one in taken), timeout=SECONDS)
    edge.check_ledger(taken)
    (disk / "filler").unlink()
    wait_until(lambda: _is_admitted(edge), SECONDS, "senders to be admitted again")


def _send_until_refused(edge: EdgeSetup) -> list[Instance]:
    """Send small instances of one study until an association is rejected; return what was taken."""
    study = new_uid()
    taken: list[Instance] = []
    while True:
        try:
            with edge.association([Instance().context]) as association:
                for _ in range(10):
                    instance = Instance(study_instance_uid=study)
                    status, _ = store(association, instance)
                    if status == 0:
                        taken.append(instance)
        except AssociationRejectedError as error:
            if (error.result, error.source, error.reason) != (2, 3, 1):
                raise
            return taken


def _is_admitted(edge: EdgeSetup) -> bool:
    try:
        return edge.send(Instance()) == [0]
    except GatewayError:
        return False
