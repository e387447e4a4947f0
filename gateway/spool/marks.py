"""Read and write the marks of the spool: name and epoch in `spool.id`, the last time mark in `spool.seen`.

Both files lie in `edge.data_root`. A new text is written beside the file and takes its name when it is on the
disk, so a reader finds the old text or the new one, whole, also after a power cut.

The files get the owner of the folder. Otherwise the processes could not read files that a command of root
wrote.

If the process dies
    before the name is taken   a file `.new` remains beside it, which nobody reads

`reset-db` writes the new epoch here, and then to the database.

If the process dies
    after the spool has the new epoch     the pair is unknown until `reset-db` runs again
    after the commit                      the files are still to be moved; the next sweep does it
"""

import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar
from uuid import UUID, uuid4

from gateway.domain.pairing import SpoolMarks
from gateway.errors import UnknownSpoolError
from gateway.spool.flush import FILE_MODE, failure, flush_directory, make_folder, remove_uncommitted

ID = "spool.id"
SEEN = "spool.seen"
MAX_BYTES = 4096

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """The content of `spool.id`."""

    name: UUID
    epoch: int


class Remembered(Generic[T]):
    """What `read` returns for one file. It is read again only if the file was replaced since."""

    def __init__(self, path: Path, read: Callable[[], T]) -> None:
        self._path = str(path)
        self._read = read
        self._last: tuple[tuple[int, int, int], T] | None = None

    def content(self) -> T:
        """Return the content as it is on the disk now; what `read` raises is raised."""
        try:
            status = os.stat(self._path)  # noqa: PTH116  asked for each C-STORE: a Path costs as much
        except OSError:
            return self._read()  # it says what is wrong, or that there is no such file
        stamp = (status.st_dev, status.st_ino, status.st_mtime_ns)
        last = self._last
        if last is None or last[0] != stamp:
            # If it is replaced between stat and read, the stamp is older than the content: it is read again.
            last = self._last = (stamp, self._read())
        return last[1]


def read_marks(root: Path) -> SpoolMarks:
    """Return the marks of the spool in `root`; without a name if there is no `spool.id`.

    Raises:
        UnknownSpoolError: a file cannot be read, or does not hold a mark.
    """
    # Read `spool.seen` first: it must be read before the mark of the database that it is compared with.
    seen = read_seen(root)
    return marks_of(read_identity(root), seen)


def marks_of(identity: Identity | None, seen_at: datetime | None) -> SpoolMarks:
    """Return these contents of `spool.id` and `spool.seen` as the marks of a spool."""
    return SpoolMarks(None) if identity is None else SpoolMarks(identity.name, identity.epoch, seen_at)


def read_seen(root: Path) -> datetime | None:
    """Return the last time mark of the spool in `root`; None if there is none.

    Raises:
        UnknownSpoolError: the file cannot be read, or does not hold a time.
    """
    text = _read(root / SEEN)
    return None if text is None else _moment(root / SEEN, text)


def read_identity(root: Path) -> Identity | None:
    """Return the content of `spool.id`; None if there is no such file.

    Raises:
        UnknownSpoolError: it cannot be read, or does not hold a name.
    """
    text = _read(root / ID)
    if text is None:
        return None
    try:
        content = json.loads(text)
        return Identity(UUID(content["name"]), int(content["epoch"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnknownSpoolError(
            f"{root / ID} holds no name of a spool, so nothing is received, sent or deleted. Restore the "
            "file; if it is lost, remove it and run `mini-pacs db rebuild`"
        ) from error


def write_identity(root: Path, identity: Identity, *, replace: bool) -> bool:
    """Write `spool.id` durably; return False, with nothing written, if it exists and is not to be replaced.

    Raises:
        SpoolError: the file system refuses.
    """
    return _write(
        root / ID, json.dumps({"name": str(identity.name), "epoch": identity.epoch}), replace=replace
    )


def write_seen(root: Path, seen_at: datetime) -> None:
    """Write `spool.seen` durably, unless it holds a later time.

    Raises:
        SpoolError: the file system refuses.
        UnknownSpoolError: the file that is there cannot be read.
    """
    text = _read(root / SEEN)
    if text is None or _moment(root / SEEN, text) < seen_at:
        _write(root / SEEN, seen_at.isoformat(), replace=True)


def begin_epoch(root: Path) -> Identity:
    """Write the next epoch to the spool, durably; the caller then writes it to the database.

    Raises:
        UnknownSpoolError: the spool has no name.
        SpoolError: the file system refuses.
    """
    identity = read_identity(root)
    if identity is None:
        raise UnknownSpoolError(f"{root} has no spool.id")
    new = Identity(identity.name, identity.epoch + 1)
    write_identity(root, new, replace=True)
    return new


def end_epoch(root: Path, identity: Identity) -> None:
    """Write the epoch before that of `identity` again: the database refused the new one.

    Receptions of that time have the new epoch. They are registered all the same, because it is not older.

    Raises:
        SpoolError: the file system refuses.
    """
    write_identity(root, Identity(identity.name, identity.epoch - 1), replace=True)


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("ascii", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = "; give it to the user of the processes (`chown`)" if error.errno == errno.EACCES else ""
        raise UnknownSpoolError(
            f"{failure('read', path, error)}, so it is not known whether this is the spool of the database. "
            f"Nothing is received, sent or deleted{hint}"
        ) from error


def _moment(path: Path, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UnknownSpoolError(
            f"{path} holds no time, so nothing is received, sent or deleted. If it cannot be restored, "
            "remove it and run `mini-pacs db rebuild`"
        ) from error
    if moment.tzinfo is None:
        raise UnknownSpoolError(
            f"{path} holds a time without a zone; remove it and run `mini-pacs db rebuild`"
        )
    return moment


def _write(path: Path, text: str, *, replace: bool) -> bool:
    new = path.with_name(f"{path.name}.{uuid4().hex[:8]}.new")
    try:
        make_folder(path.parent)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            _give_to_owner(descriptor, path.parent)
            file.write(text + "\n")
            file.flush()
            os.fsync(descriptor)  # survives a power cut: the text, before it gets its name
        if replace:
            new.replace(path)
        else:
            os.link(new, path)
        flush_directory(path.parent)  # survives a power cut: the name
    except FileExistsError:
        return False
    except OSError as error:
        raise failure("write", path, error) from error
    else:
        return True
    finally:
        remove_uncommitted(new)


def _give_to_owner(descriptor: int, folder: Path) -> None:
    owner = folder.stat()
    if owner.st_uid != os.geteuid():
        with suppress(PermissionError):  # only root may give files away
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
