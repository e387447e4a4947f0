"""Print the log of all processes, each line once. `docker compose logs edge` shows this output.

`LogFollower` copies complete lines from the log. It stores its position in a file beside the log, so that a
restart neither repeats nor skips lines. After a rotation it continues with the next file.

If the process dies
    after printing, before the position is stored   the next one prints those lines again
"""

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.log import REOPEN_CHECK_SECONDS

POLL_SECONDS = 0.2
ROTATED_SECONDS = 3 * REOPEN_CHECK_SECONDS
"""How long a rotated file may still grow. Must exceed the time within which writers reopen the log."""

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _LogFile:
    path: Path
    inode: int
    size: int


class LogFollower:
    """Prints the log at `path` to the descriptor `output`, from the stored position on."""

    def __init__(self, path: Path, output: int) -> None:
        self._path = path
        self._output = output
        path.parent.mkdir(parents=True, exist_ok=True)
        self._position_file = os.open(
            path.with_name(f"{path.name}.printed"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640
        )
        self._file: int | None = None
        self._position = 0
        self._rotated_at: float | None = None

    def run(self, ended: threading.Event) -> None:
        """Print until `ended` is set, then print the rest and return."""
        while True:
            last = ended.is_set()  # before copying, so that no line that was written before `ended` is missed
            while self._print_some():
                pass
            if last:
                return
            ended.wait(POLL_SECONDS)

    def close(self) -> None:
        """Close the files."""
        os.close(self._position_file)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _print_some(self) -> bool:
        """Print the next lines, up to a fixed size; tell whether there may be more."""
        if self._file is None and not self._open_first():
            return False
        assert self._file is not None
        piece = os.pread(self._file, _PIECE_BYTES, self._position)
        whole = piece.rfind(b"\n") + 1
        if whole == 0:
            # There is no line, or its end is not written yet.
            return self._open_next()
        rest = memoryview(piece)[:whole]
        while rest:
            rest = rest[os.write(self._output, rest) :]
        self._position += whole
        self._store_position()
        return True

    def _open_first(self) -> bool:
        """Open the file of the stored position; the log if none is stored; the oldest if it is gone."""
        files = self._files()
        if not files:
            return False
        stored = os.pread(self._position_file, 100, 0).split()
        if not stored:
            return self._open(files[0], 0)
        inode, position = (int(word) for word in stored)
        for file in files:
            if file.inode == inode:
                return self._open(file, position if position <= file.size else 0)
        return self._open(files[-1], 0)

    def _open_next(self) -> bool:
        """Open the next file if this one was rotated and no longer grows; tell whether it was opened."""
        assert self._file is not None
        files = self._files()
        inode = os.fstat(self._file).st_ino
        place = next((n for n, file in enumerate(files) if file.inode == inode), len(files))
        if place == 0 or not files:
            self._rotated_at = None
            return False
        now = time.monotonic()
        if self._rotated_at is None:
            self._rotated_at = now
        if now - self._rotated_at < ROTATED_SECONDS:
            return False
        self._rotated_at = None
        return self._open(files[place - 1], 0)

    def _files(self) -> list[_LogFile]:
        """Return the log and its backups, youngest first; during a rotation one may be missing."""
        found = []
        with suppress(FileNotFoundError):  # the log does not exist yet, or is being renamed
            found.append(_log_file(self._path))
        number = 1
        with suppress(FileNotFoundError):  # there is no further backup
            while True:
                found.append(_log_file(self._path.with_name(f"{self._path.name}.{number}")))
                number += 1
        return found

    def _open(self, file: _LogFile, position: int) -> bool:
        """Open `file` at `position`; return False if it was renamed since it was listed."""
        try:
            opened = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        if os.fstat(opened).st_ino != file.inode:
            os.close(opened)
            return False
        if self._file is not None:
            os.close(self._file)
        self._file = opened
        self._position = position
        self._store_position()
        return True

    def _store_position(self) -> None:
        assert self._file is not None
        # One write of fixed length. It is not flushed: after a power cut some lines are printed again.
        os.pwrite(
            self._position_file, f"{os.fstat(self._file).st_ino:20d} {self._position:20d}\n".encode(), 0
        )


def _log_file(path: Path) -> _LogFile:
    status = path.stat()
    return _LogFile(path, status.st_ino, status.st_size)
