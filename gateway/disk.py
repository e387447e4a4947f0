"""What the file system is asked for: durable, closed to other users, told in our words where it refuses."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from gateway.errors import SpoolError, SpoolFullError

LOCK = "lock"

FOLDER_MODE = 0o750
FILE_MODE = 0o640
"""The group is the operator's to give to whoever may look."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


def failure(operation: str, path: Path, error: OSError) -> SpoolError:
    """The error for a refused file operation: operation, path and reason."""
    sentence = f"{operation} {path}: {error.strerror or error}"
    return SpoolFullError(sentence) if error.errno in _FULL else SpoolError(sentence)


def make_folder(path: Path) -> None:
    """The folder is there; it and each that was made on the way are closed to other users (G8).

    Whatever the umask: one that was set wide would open every data set to whoever is on the machine.
    """
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except FileExistsError:
        if not path.is_dir():
            raise


def flush_directory(path: Path) -> None:
    """Return when the entries of a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_folder(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock until it is closed; None where somebody else holds it.

    Raises:
        FileNotFoundError: the folder is gone, or its lock was removed before it was held.
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


def write_file(path: Path, text: str, *, replace: bool = False) -> None:
    """A file of that text stands at `path`, durably and whole, whenever the process or the power dies.

    If it dies before, a `.new` file may remain beside it, which nobody reads.

    Raises:
        FileExistsError: somebody was first, and not to `replace`.
        OSError: the file system refuses.
    """
    new = path.with_name(f"{path.name}.{uuid4().hex[:8]}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)  # survives a power cut: the text, before it has its name
        if replace:
            new.replace(path)
        else:
            os.link(new, path)
        flush_directory(path.parent)  # survives a power cut: the name
    finally:
        take_back(new)


def take_back(path: Path) -> None:
    """The name is gone. Never raises: where the disk refuses, nothing believes it, and reconcile sees to it.

    For cleaning up behind an error, which is the one to be told of.
    """
    with suppress(OSError):
        path.unlink()
