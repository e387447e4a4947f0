"""Lock a file for one process; wait a bounded time for its holder.

The kernel releases the lock when the holder ends, by kill -9 too. The file itself stays.
"""

import fcntl
import os
import time
from pathlib import Path
from typing import IO

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
