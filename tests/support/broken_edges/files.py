"""Files of the spool that are gone, changed or cut short, and folders that are gone."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from gateway.domain.outcome import Outcome
from gateway.forward.deliver import forward_to_pacs
from gateway.sweep.run import sweep
from support.broken_edges.case import Breaking, case
from support.healthy_edge import HealthyEdge
from support.synthetic_instances import Instance


def change_bytes(path: Path) -> None:
    """Change the last byte, as a failing disk does."""
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def clear_bytes(path: Path) -> None:
    """Write zeros in the place of all bytes."""
    path.write_bytes(bytes(path.stat().st_size))


def cut_short(path: Path) -> None:
    """Drop the last bytes."""
    os.truncate(path, path.stat().st_size - 16)


def put_folder_in_place(path: Path) -> None:
    """Make a folder with the name of the file: any user can open it, and cannot read it."""
    path.unlink()
    path.mkdir()


def with_broken_file(edge: HealthyEdge, breaks: Callable[[Path], object], outcome: Outcome) -> Breaking:
    """Break the file of an instance that waits for the PACS; its sender sends it again afterwards."""
    instance = Instance()
    delivery = edge.core.owed(instance)
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'workers'")
    path = next(path for name, path in edge.edge.files().items() if instance.sop_instance_uid in name)
    breaks(path)
    assert forward_to_pacs(edge.core.context, delivery) is outcome
    finding = yield
    assert str(path if path.exists() else path.name) in finding.what
    assert f"mini-pacs deliveries retry --study {instance.study_instance_uid}" in finding.remedy
    if path.is_dir():
        path.rmdir()
    edge.core.receive(instance)
    edge.core.due()
    assert forward_to_pacs(edge.core.context, delivery) is Outcome.DELIVERED
    path.unlink(missing_ok=True)
    # The repeat made the worker's delivery pending again.
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'workers'")
    edge.edge.run("DELETE FROM dramatiq.queue")


@case("files.lost", ("1 instance for ORTHANC", "holds other bytes"), ("send study", "deliveries cancel"))
def file_changed(edge: HealthyEdge) -> Breaking:
    """The disk changed a byte of a file that waits for the PACS."""
    yield from with_broken_file(edge, change_bytes, Outcome.LOST_FILE)


@case("files.lost", "holds other bytes", "send study")
def file_of_zeros(edge: HealthyEdge) -> Breaking:
    """The disk lost all bytes of a file."""
    yield from with_broken_file(edge, clear_bytes, Outcome.LOST_FILE)


@case("files.lost", "bytes of data set, received were", "send study")
def file_cut_short(edge: HealthyEdge) -> Breaking:
    """The end of a file is gone."""
    yield from with_broken_file(edge, cut_short, Outcome.LOST_FILE)


@case("files.lost", "holds other bytes", "send study")
def file_empty(edge: HealthyEdge) -> Breaking:
    """A file is empty."""
    yield from with_broken_file(edge, lambda path: path.write_bytes(b""), Outcome.LOST_FILE)


@case("files.lost", ("are gone", "no place"), ("send study", "from a backup"))
def file_deleted(edge: HealthyEdge) -> Breaking:
    """Somebody deleted a file."""
    yield from with_broken_file(edge, Path.unlink, Outcome.LOST_FILE)


@case("files.not_read", ("cannot be read", "Is a directory"), ("chown", "dmesg"))
def file_unreadable(edge: HealthyEdge) -> Breaking:
    """A file cannot be read."""
    yield from with_broken_file(edge, put_folder_in_place, Outcome.NOT_READ)


@case("files.missing", "1 instance that must still be delivered", "send them again")
def file_missing_in_the_sweep(edge: HealthyEdge) -> Breaking:
    """The sweep finds that a file is gone, before anybody tries to send it."""
    instance = Instance()
    edge.core.owed(instance)
    path = next(path for name, path in edge.edge.files().items() if instance.sop_instance_uid in name)
    kept = path.read_bytes()
    path.unlink()
    sweep(edge.core.sweeping(), ("reconcile",))
    yield
    path.write_bytes(kept)
    sweep(edge.core.sweeping(), ("reconcile",))
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE state <> 'delivered'")
    edge.edge.run("DELETE FROM dramatiq.queue")


@case("spool.folder:partial", ("partial", "is gone"), ("mkdir -m 750", "mini-pacs serve"))
def folder_deleted(edge: HealthyEdge) -> Breaking:
    """Somebody renamed a folder of the spool, and nothing receives."""
    root = edge.configuration.edge.data_root
    (root / "partial").rename(root / "elsewhere")
    finding = yield
    command = re.search(r"`(mkdir [^`]+)`", finding.remedy)
    assert command is not None
    subprocess.run(command[1].split(), check=True)
    shutil.rmtree(root / "partial")
    (root / "elsewhere").rename(root / "partial")
