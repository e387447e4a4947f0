"""Prints the log of all processes, each line once: what `docker compose logs edge` shows (design.md §10).

`Follower` copies whole lines of the file that every process appends to. How far it came is noted beside
the log, so that a restart neither repeats lines nor leaves out what others wrote meanwhile; through a
rotation it goes from file to file. If the process dies
    after printing, before the note    those lines are printed again by the next
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
"""How long a rotated file may still grow: must exceed the time within which its writers reopen the log."""

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    inode: int
    size: int


class Follower:
    """Prints the log at `path` to the descriptor `output`, from where the last one stopped."""

    def __init__(self, path: Path, output: int) -> None:
        self._path = path
        self._output = output
        path.parent.mkdir(parents=True, exist_ok=True)
        self._note = os.open(
            path.with_name(f"{path.name}.printed"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640
        )
        self._file: int | None = None
        self._position = 0
        self._rotated_at: float | None = None

    def run(self, ended: threading.Event) -> None:
        """Print until `ended` is set, and what stood there by then."""
        while True:
            last = ended.is_set()  # asked before the copying, so that nothing written before it is missed
            while self._print_some():
                pass
            if last:
                return
            ended.wait(POLL_SECONDS)

    def close(self) -> None:
        """The descriptors are closed."""
        os.close(self._note)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _print_some(self) -> bool:
        """Print what there is, up to some size; tell whether there may be more."""
        if self._file is None and not self._begin():
            return False
        assert self._file is not None
        piece = os.pread(self._file, _PIECE_BYTES, self._position)
        whole = piece.rfind(b"\n") + 1
        if whole == 0:
            # no line, or its end is still being written
            return self._go_on()
        rest = memoryview(piece)[:whole]
        while rest:
            rest = rest[os.write(self._output, rest) :]
        self._position += whole
        self._write_down()
        return True

    def _begin(self) -> bool:
        """Open the file that the note names, else the log, else (the note's is gone) the oldest there is."""
        files = self._files()
        if not files:
            return False
        noted = os.pread(self._note, 100, 0).split()
        if not noted:
            return self._open(files[0], 0)
        inode, position = (int(word) for word in noted)
        for file in files:
            if file.inode == inode:
                return self._open(file, position if position <= file.size else 0)
        return self._open(files[-1], 0)

    def _go_on(self) -> bool:
        """Move on to the next file where ours was rotated and grows no more; tell whether we did."""
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

    def _files(self) -> list[_Found]:
        """The log and its backups, the youngest first; in the middle of a rotation perhaps not all."""
        found = []
        with suppress(FileNotFoundError):  # the log may not be there yet, or just be renamed
            found.append(_found(self._path))
        number = 1
        with suppress(FileNotFoundError):  # the number after the last
            while True:
                found.append(_found(self._path.with_name(f"{self._path.name}.{number}")))
                number += 1
        return found

    def _open(self, file: _Found, position: int) -> bool:
        """Go on in that file; not where it was renamed since it was found, then the next look tells."""
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
        self._write_down()
        return True

    def _write_down(self) -> None:
        assert self._file is not None
        # One write of fixed length; not flushed to the disk, because losing it costs a repetition only.
        os.pwrite(self._note, f"{os.fstat(self._file).st_ino:20d} {self._position:20d}\n".encode(), 0)


def _found(path: Path) -> _Found:
    status = path.stat()
    return _Found(path, status.st_ino, status.st_size)
