"""Edges whose spool is away, full, foreign, read-only, or damaged."""

import json
import os
import shutil
import time
import uuid
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

from proof.edges import sender
from proof.edges.edge import broken
from proof.edges.lab import Lab, Setup
from proof.edges.machine import NOBODY, run, unmount
from proof.edges.sender import NotAssociatedError

DISK = Setup("disk", spool="ext4 96")
MEMORY = Setup("memory", spool="tmpfs 48m,nr_inodes=4000")
USER = Setup("user", nobody=True)


def _try_to_send(lab: Lab, times: int = 4) -> None:
    for _ in range(times):
        with suppress(NotAssociatedError):
            sender.send(lab.port, [sender.synthetic()])


@broken(DISK, (r"spool|data", r"not mounted|mount|empty|no spool"), (r"mount",))
def spool_not_mounted(lab: Lab) -> Generator[None]:
    """The disk of the spool was unmounted under the running edge."""
    unmount(lab.data)
    _try_to_send(lab)
    time.sleep(8)
    yield
    run("mount", "-o", "loop", lab.folder / "spool.img", lab.data)
    lab.sent_again()


@broken(DISK, (r"spool|data", r"read.only"), (r"remount|mount|disk|writ",))
def spool_read_only(lab: Lab) -> Generator[None]:
    """The kernel found an error on the disk of the spool, and made it read-only."""
    device = Path(run("findmnt", "-no", "SOURCE", lab.data).strip())
    run("mount", "-o", "remount,errors=remount-ro", lab.data)
    (Path("/sys/fs/ext4") / device.name / "trigger_fs_error").write_text("edges")
    _try_to_send(lab)
    time.sleep(4)
    yield
    names = ("serve", "pacs", "workers", "sweep")
    for name in names:
        lab.stop(name)
    run("umount", lab.data)
    run("sh", "-c", f"e2fsck -fy {lab.folder / 'spool.img'} || test $? -le 2")
    run("mount", "-o", "loop", lab.folder / "spool.img", lab.data)
    for name in names:
        lab.start(name)
    lab.sent_again()


@broken(
    DISK, (r"spool|data", r"hang|not answer|no answer|blocked|frozen"), (r"disk|mount|storage|fsfreeze|NFS",)
)
def spool_hangs(lab: Lab) -> Generator[None]:
    """Writes to the disk of the spool hang, as on a storage that went away."""
    run("fsfreeze", "-f", lab.data)
    try:
        with sender.traffic(lab.port, 0.5):
            time.sleep(8)
            yield
            run("fsfreeze", "-u", lab.data)
    finally:
        with suppress(RuntimeError):
            run("fsfreeze", "-u", lab.data)


@broken(DISK, (r"reserve|free|full|space",), (r"edge\.disk_reserve_mb|space|retention_hours",))
def spool_full(lab: Lab) -> Generator[None]:
    """Somebody filled the disk of the spool."""
    filler = lab.data / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
            file.flush()
    _try_to_send(lab)
    time.sleep(6)
    yield
    filler.unlink()
    lab.sent_again()


@broken(MEMORY, (r"inode",), (r"inode|files|file system",))
def spool_without_inodes(lab: Lab) -> Generator[None]:
    """The file system of the spool has space, and no inode left."""
    folder = lab.data / "filler"
    folder.mkdir()
    with suppress(OSError):
        for number in range(100_000):
            (folder / str(number)).touch()
    _try_to_send(lab)
    time.sleep(6)
    yield
    shutil.rmtree(folder)
    lab.sent_again()


@broken(
    MEMORY, (r"spool", r"another|other|foreign|belong|not the"), (r"mount|data_root|rebuild|DATABASE_URL",)
)
def spool_of_another_edge(lab: Lab) -> Generator[None]:
    """The disk of another edge was mounted in the place of the spool."""
    other = lab.folder / "other"
    shutil.copytree(lab.data, other)
    name = other / "spool.id"
    content = json.loads(name.read_text())
    name.write_text(json.dumps(content | {"name": str(uuid.uuid4())}))
    run("mount", "--bind", other, lab.data)
    _try_to_send(lab, 2)
    time.sleep(8)
    yield
    run("umount", "-l", lab.data)
    shutil.rmtree(other)
    lab.sent_again()


@broken(
    USER,
    (r"spool|data|incoming", r"nobody|65534|user", r"writ|permission"),
    (r"chown|chmod|owner|permission|writable",),
)
def spool_not_writable_by_its_user(lab: Lab) -> Generator[None]:
    """Somebody gave the folders of the spool to root; the processes run as nobody."""
    _give(lab.data, 0)
    _try_to_send(lab)
    time.sleep(6)
    yield
    _give(lab.data, NOBODY)
    lab.sent_again()


def _give(folder: Path, owner: int) -> None:
    for root, _folders, files in os.walk(folder):
        os.chown(root, owner, owner)
        for file in files:
            os.chown(Path(root) / file, owner, owner)


def _waiting_files(lab: Lab) -> list[Path]:
    folders = (lab.data / "incoming", lab.data / "queued")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


@broken(DISK, (r"file", r"missing|lost|gone|no longer|not there|dead"), (r"send .*again|deliveries",))
def file_of_the_spool_deleted(lab: Lab) -> Generator[None]:
    """Somebody deleted a file that waits for the PACS."""
    lab.mini_pacs("destinations", "pause", "PACS")
    made = lab.send(1)[0]
    time.sleep(3)
    for path in _waiting_files(lab):
        path.unlink()
    lab.mini_pacs("destinations", "resume", "PACS")
    time.sleep(6)
    yield
    sender.send(lab.port, [made])
    time.sleep(3)
    lab.command("deliveries", "retry", "--study", str(made.StudyInstanceUID))
    lab.command("deliveries", "cancel", "--state", "dead", "--all", "--yes")
    lab.command("deliveries", "cancel", "--state", "dead", "--yes")


@broken(DISK, (r"damaged|other bytes|SHA|bytes", r"file|instance"), (r"send .*again|damaged",))
def file_of_the_spool_damaged(lab: Lab) -> Generator[None]:
    """The disk lost the bytes of a file that waits for the PACS."""
    lab.mini_pacs("destinations", "pause", "PACS")
    made = lab.send(1)[0]
    time.sleep(3)
    for path in _waiting_files(lab):
        path.write_bytes(bytes(path.stat().st_size))
    lab.mini_pacs("destinations", "resume", "PACS")
    time.sleep(6)
    yield
    sender.send(lab.port, [made])
    time.sleep(3)
    lab.command("deliveries", "retry", "--study", str(made.StudyInstanceUID))
    for path in (lab.data / "damaged").rglob("*"):
        if path.is_file():
            path.unlink()
    lab.command("deliveries", "cancel", "--state", "dead", "--yes")


@broken(
    DISK,
    (r"spool\.id|spool", r"name|read|damaged|missing|has no spool\.id"),
    (r"spool\.id|restore|rebuild|mount",),
)
def name_of_the_spool_deleted(lab: Lab) -> Generator[None]:
    """Somebody deleted spool.id in data/."""
    kept = (lab.data / "spool.id").read_bytes()
    (lab.data / "spool.id").unlink()
    _try_to_send(lab, 2)
    time.sleep(6)
    yield
    (lab.data / "spool.id").write_bytes(kept)
    lab.sent_again()


@broken(
    MEMORY,
    (r"partial|queued|spool|folder", r"missing|no such|not there|cannot"),
    (r"mkdir|create|restore|restart|serve|folder",),
)
def folder_of_the_spool_deleted(lab: Lab) -> Generator[None]:
    """Somebody deleted the folder partial/ of the spool."""
    shutil.rmtree(lab.data / "partial")
    _try_to_send(lab)
    time.sleep(4)
    yield
    (lab.data / "partial").mkdir(exist_ok=True)
    lab.restart("serve")
    lab.sent_again()
