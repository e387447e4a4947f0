"""A file system with one file, the image of a disk, that records every write and every flush of it.

The loop device that lies on the image sends its flushes as fsync, so the record has what a disk gets: writes,
and flushes between them. `Record` builds the image as it was at any moment. What was written after the last
flush may be on the disk or not, each block for itself.

    IMAGE        the content now
    IMAGE.log    offset and length of each write with its bytes; a length of zero is a flush
"""

import errno
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

from proof.power_cuts.file_system import ROOT, Attributes, Change, FileSystem

NAME = "disk.img"
BLOCK = 4096
"""The disk writes a block whole or not at all; a longer write may be torn between two blocks."""
LATE = 60
"""How many flushes a lying disk is late."""
_DISK = ROOT + 1
_ENTRY = struct.Struct("=QI")
_LOG = ".log"


class RecordingFiles(FileSystem):
    """The file, kept in `image`."""

    def __init__(self, image: Path) -> None:
        self._image = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self._log = os.open(_log_of(image), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._image).st_size

    def lookup(self, folder: int, name: str) -> int:
        """Return the number of the image."""
        if (folder, name) != (ROOT, NAME):
            raise OSError(errno.ENOENT, name)
        return _DISK

    def attributes(self, number: int) -> Attributes:
        """Return what stat(2) says."""
        if number == ROOT:
            return Attributes(ROOT, stat.S_IFDIR | 0o755, links=2)
        return Attributes(_DISK, stat.S_IFREG | 0o600, self._size)

    def change(self, number: int, change: Change) -> None:
        """Change nothing: the image has a size and an owner."""

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Return the bytes there."""
        assert number == _DISK
        return os.pread(self._image, size, offset)

    def write(self, number: int, offset: int, data: memoryview) -> None:
        """Write and record."""
        assert number == _DISK
        os.pwrite(self._image, data, offset)
        os.writev(self._log, [_ENTRY.pack(offset, len(data)), data])

    def flush(self, number: int, *, is_folder: bool) -> None:
        """Record the flush."""
        if number == _DISK and not is_folder:
            os.write(self._log, _ENTRY.pack(0, 0))

    def names(self, folder: int) -> list[tuple[int, str, int, int]]:
        """Return the image."""
        assert folder == ROOT
        return [(1, NAME, _DISK, stat.S_IFREG)]


def _log_of(image: Path) -> Path:
    return image.with_name(image.name + _LOG)


class Record:
    """What was recorded of an image; `image` is brought from the content before it to any later moment.

    Positions count writes and flushes. With `lies` the last flushes before a position did nothing, as on a
    disk that answers a flush before the bytes are safe.
    """

    def __init__(self, before: Path, recorded: Path, image: Path, *, lies: bool = False) -> None:
        self._image = image
        self._lies = lies
        self._log = _log_of(recorded).open("rb")
        self._entries = list(self._read_entries())
        self._at = 0
        copy_sparse(before, image)

    def __len__(self) -> int:
        return len(self._entries)

    def flushes(self) -> list[int]:
        """Return the position behind each flush."""
        return [number for number, (_, _, length) in enumerate(self._entries, 1) if not length]

    def before_flushes(self) -> list[int]:
        """Return the position before each flush that has something to flush."""
        at = self.flushes()
        return [number - 1 for last, number in zip([0, *at], at, strict=False) if number - 1 > last]

    def _read_entries(self) -> Iterator[tuple[int, int, int]]:
        """Yield the offset of the bytes in the log, their offset in the image, and their length."""
        while head := self._log.read(_ENTRY.size):
            offset, length = _ENTRY.unpack(head)
            yield self._log.tell(), offset, length
            self._log.seek(length, os.SEEK_CUR)

    def build(self, position: int, target: Path, generator: Random) -> int:
        """Build in `target` what a power cut at `position` leaves; return how many blocks are lost.

        Positions must rise from call to call.
        """
        flushes = [at for at in self.flushes() if at <= position]
        late = LATE if self._lies else 1
        flushed = flushes[-late] if len(flushes) >= late else 0
        assert flushed >= self._at, "positions rise"
        with self._image.open("r+b") as image:
            for entry in self._entries[self._at : flushed]:
                image.seek(entry[1])
                image.write(self._bytes(entry))
        self._at = flushed
        copy_sparse(self._image, target)
        return self._write_some(self._entries[flushed:position], target, generator)

    def _write_some(self, entries: list[tuple[int, int, int]], target: Path, generator: Random) -> int:
        how = generator.choice(("nothing", "everything", "up to one", "some"))
        blocks = [
            (offset + at, data[at : at + BLOCK])
            for entry in entries
            for offset, data in [(entry[1], self._bytes(entry))]
            for at in range(0, len(data), BLOCK)
        ]
        share = {"nothing": 0.0, "everything": 1.0}.get(how, generator.random())
        kept = blocks[: round(share * len(blocks))]
        if how == "some":
            kept = [block for block in blocks if generator.random() < share]
        with target.open("r+b") as image:
            for offset, data in kept:
                image.seek(offset)
                image.write(data)
        return len(blocks) - len(kept)

    def _bytes(self, entry: tuple[int, int, int]) -> bytes:
        self._log.seek(entry[0])
        return self._log.read(entry[2])

    def close(self) -> None:
        """Close the log."""
        self._log.close()


def copy_sparse(source: Path, target: Path) -> None:
    """Copy only what is not a hole."""
    with source.open("rb") as old, target.open("wb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        at = 0
        while True:
            try:
                begin = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    return
                raise
            at = os.lseek(old.fileno(), begin, os.SEEK_HOLE)
            while begin < at:
                begin += os.copy_file_range(old.fileno(), new.fileno(), at - begin, begin, begin)
