"""Lock a file for one process, or the folder of a lab for one lab; wait a bounded time for the holder.

The kernel releases the lock when the holder ends, by kill -9 too. The file itself stays.
"""

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from gateway.errors import LabError
from gateway.lab import stray_processes

LOCK = "lab.lock"
LOCK_SECONDS = 3.0
"""Must exceed the time in which a killed supervisor ends; its last thread keeps the lock until then. So does
a child of an interrupted start, until it executes its program: more than a second on a busy machine."""

_POLL_SECONDS = 0.02


def seize(path: Path, seconds: float) -> IO[bytes]:
    """Lock `path`, which is created where it is missing; closing the file releases the lock.

    Raises:
        BlockingIOError: another holder kept the lock for `seconds`.
        OSError: the file cannot be opened, or is a symbolic link.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    lock = os.fdopen(descriptor, "wb")
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.close()
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return lock


def seize_folder(folder: Path) -> IO[bytes]:
    """Lock `folder` for one lab, and end processes of an earlier one; closing the result unlocks it.

    Raises:
        LabError: another lab runs in this folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = seize(folder / LOCK, LOCK_SECONDS)
    except BlockingIOError as error:
        raise LabError(f"a lab runs in {folder} already: stop it, or choose another folder") from error
    stray_processes.end(family(folder))
    return lock


def is_there(lock: IO[bytes], folder: Path) -> bool:
    """Tell whether the file of `lock` is still that of `folder`: the folder was not deleted or replaced."""
    try:
        there = (folder / LOCK).stat()
    except OSError:
        return False
    ours = os.fstat(lock.fileno())
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def family(folder: Path) -> str:
    """Return the beginning of the identity of every lab in `folder`."""
    return f"{folder.resolve()}#"
