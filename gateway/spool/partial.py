"""Files that are being written or not registered yet, in a locked folder for each receiver process.

A partial file is partial/<receiver>/<number>.part. `Partial.name` adds a second link to it, which is its
final name. The `.part` link stays until the reception is registered: the links are the to-do list of
registration. While PostgreSQL is away, a link may stay for hours.

A receiver process holds the lock of its folder as long as it lives. If the lock is free, the receiver is
dead, and gateway/register/recovery.py registers what it left.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.errors import SpoolError
from gateway.spool.flush import FILE_MODE, failure, flush_directory

PARTIAL = "partial"
LOCK = "lock"
SUFFIX = ".part"


def lock_folder(folder: Path) -> int | None:
    """Lock a receiver's folder; return a descriptor that holds the lock until it is closed.

    Return None if another process holds the lock.

    Raises:
        FileNotFoundError: the folder or its lock file was removed before the lock was taken.
    """
    path = folder / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class Partial:
    """A file that is being written. It ends with `close` if it was acknowledged, else with `discard`."""

    def __init__(self, path: str, name: Callable[[str, str, Sequence[str]], str]) -> None:
        """Create the file. `name` gives it a final name, as `Places.name` does."""
        self._name = name
        self._folder: str | None = None
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise failure("create", path, error) from error

    def write(self, *parts: bytes | bytearray | memoryview) -> None:
        """Append all of the parts.

        Raises:
            SpoolFullError: the disk is full.
            SpoolError: any other refusal.
        """
        views = [memoryview(part) for part in parts if part]
        while views:
            try:
                written = os.writev(self.descriptor, views)
            except OSError as error:
                raise failure("write", self.path, error) from error
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if views:
                views[0] = views[0][written:]

    def seal(self, envelope: bytes, offset: int) -> None:
        """Write the envelope into the place that was kept free for it, at `offset`.

        The file counts as finished only after this. Call `name` and `flush` next.

        Raises:
            SpoolError: the file system refused.
        """
        try:
            written = os.pwrite(self.descriptor, envelope, offset)
        except OSError as error:
            raise failure("write", self.path, error) from error
        if written != len(envelope):
            raise SpoolError(f"write {self.path}: {written} bytes of the envelope were written")

    def name(self, study_instance_uid: str, names: Sequence[str]) -> str:
        """Link the file under the first of `names` that is free in incoming/<study>.

        The name is durable only after `flush`.
        """
        target = self._name(self.path, study_instance_uid, names)
        self._folder = target.rpartition("/")[0]
        return target

    def flush(self) -> None:
        """Make the file durable under the name that `name` gave last.

        Call `name` before: then one commit of the file system's journal writes both the file and its name.

        Raises:
            SpoolError: the file may be torn; the caller must remove it.
        """
        assert self._folder is not None, "name comes first"
        try:
            os.fsync(self.descriptor)  # survives a power cut: the bytes with their envelope, before Success
            flush_directory(self._folder)  # survives a power cut: the name
        except OSError as error:
            raise failure("fsync", self.path, error) from error

    def close(self) -> None:
        """Close the file; its links stay."""
        if self.descriptor < 0:
            return
        with suppress(OSError):
            os.close(self.descriptor)
        self.descriptor = -1  # the number soon belongs to another file

    def discard(self) -> None:
        """Close the file and remove its `.part` link, ignoring errors; recovery removes what is left."""
        if self.descriptor < 0:
            return
        self.close()
        with suppress(OSError):
            os.unlink(self.path)  # noqa: PTH108  no Path: see places.py
