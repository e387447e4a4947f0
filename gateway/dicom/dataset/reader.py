"""Read parts of a data set on disk by position.

Values that `elements` skips are not read. The amount that is read is limited; wrong lengths in a data set
cannot exceed it.
"""

import mmap
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from gateway.dicom.dataset.encoding import is_deflated
from gateway.errors import DataSetError

MAX_EXAMINED_BYTES = 16 << 20
"""Limits what is read of one data set. The largest known headers have some hundred KiB."""

_INFLATING = threading.BoundedSemaphore(2)
"""Limits how many deflated headers are read at once: each may need MAX_EXAMINED_BYTES of memory."""

_FIRST_STEP = 16 * 1024
_JUMP_STEP = 4 * 1024
_LARGEST_STEP = 256 * 1024
_GROWTH = 4


class ReadLimitError(DataSetError):
    """The limit on what is read of one data set is reached."""


class Reader(Protocol):
    """Random access to a data set."""

    def at(self, position: int, count: int) -> tuple[bytes | mmap.mmap, int] | None:
        """Return a buffer with `count` bytes from `position` on, and their offset in it; None past the end.

        Raises:
            ReadLimitError: the limit is reached.
        """

    def reaches(self, position: int) -> bool:
        """Tell whether the data set is at least `position` bytes long."""

    def close(self) -> None:
        """Free the memory; no other method may be called after this."""


class FileReader:
    """A data set that is stored as it is, from `offset` to the end of the file."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._size = max(0, os.fstat(descriptor).st_size - offset)
        self._buffer = b""
        self._position = 0
        self._step = _FIRST_STEP
        self._examined = 0

    def at(self, position: int, count: int) -> tuple[bytes | mmap.mmap, int] | None:
        """See `Reader`."""
        start = position - self._position
        if start >= 0 and start + count <= len(self._buffer):
            return self._buffer, start
        if position + count > self._size:
            return None
        if self._buffer:
            # After a skipped value, read little, because few elements may follow. Without a skip, read more
            # each time.
            is_jump = start > len(self._buffer)
            self._step = _JUMP_STEP if is_jump else min(self._step * _GROWTH, _LARGEST_STEP)
        step = max(self._step, count)
        self._examined += min(step, self._size - position)
        if self._examined > MAX_EXAMINED_BYTES:
            raise ReadLimitError("the header is too large")
        self._buffer = os.pread(self._descriptor, step, self._offset + position)
        self._position = position
        if len(self._buffer) < count:
            return None  # the file was truncated after `_size` was read
        return self._buffer, 0

    def reaches(self, position: int) -> bool:
        """See `Reader`."""
        return position <= self._size

    def close(self) -> None:
        """See `Reader`."""
        self._buffer = b""


class HeldReader:
    """A data set in memory, stored as it is."""

    def __init__(self, data_set: bytes) -> None:
        self._data_set = data_set

    def at(self, position: int, count: int) -> tuple[bytes | mmap.mmap, int] | None:
        """See `Reader`."""
        return (self._data_set, position) if position + count <= len(self._data_set) else None

    def reaches(self, position: int) -> bool:
        """See `Reader`."""
        return position <= len(self._data_set)

    def close(self) -> None:
        """See `Reader`."""
        self._data_set = b""


class InflatedReader:
    """A data set that is stored deflated (PS3.5 §A.5); it is inflated up to the position that is read."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        # A page of an anonymous map takes memory only after it is written, and `close` frees all pages.
        # malloc would keep the memory of a deflate bomb in each of its arenas.
        self._inflated = mmap.mmap(-1, MAX_EXAMINED_BYTES + _LARGEST_STEP)
        self._end = 0
        first = os.pread(descriptor, 2, offset)
        # The standard requires raw deflate, but some programs write a zlib header. It has CM = 8, and its two
        # bytes are a multiple of 31 (RFC 1950 §2.2).
        has_header = len(first) == 2 and first[0] & 0x0F == 8 and int.from_bytes(first) % 31 == 0  # noqa: PLR2004
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)

    def _inflate_to(self, end: int) -> bool:
        while self._end < end:
            if end > MAX_EXAMINED_BYTES:
                raise ReadLimitError("the deflated header is too large")
            raw = self._inflate.unconsumed_tail
            if not raw and not self._inflate.eof:
                raw = os.pread(self._descriptor, _LARGEST_STEP, self._offset)
                self._offset += len(raw)
            if not raw:
                return False
            try:
                inflated = self._inflate.decompress(raw, _LARGEST_STEP)
            except zlib.error as error:
                raise DataSetError(f"cannot be inflated: {error}") from error
            self._inflated[self._end : self._end + len(inflated)] = inflated
            self._end += len(inflated)
        return True

    def at(self, position: int, count: int) -> tuple[bytes | mmap.mmap, int] | None:
        """See `Reader`."""
        return (self._inflated, position) if self._inflate_to(position + count) else None

    def reaches(self, position: int) -> bool:
        """See `Reader`."""
        return self._inflate_to(position)

    def close(self) -> None:
        """See `Reader`."""
        self._inflated.close()


@contextmanager
def reader_of(
    descriptor: int, offset: int, transfer_syntax_uid: str, held: bytes | None = None
) -> Iterator[Reader]:
    """Lend a reader of the data set that begins at `offset`, which inflates it if it is deflated.

    `held` is the whole data set in memory; the file is read only if that is deflated.
    """
    deflated = is_deflated(transfer_syntax_uid)
    slot: AbstractContextManager[object] = _INFLATING if deflated else nullcontext()
    with slot:
        reader: Reader
        if deflated:
            reader = InflatedReader(descriptor, offset)
        else:
            reader = FileReader(descriptor, offset) if held is None else HeldReader(held)
        try:
            yield reader
        finally:
            # Free the memory before the semaphore is released. Otherwise the traceback of an error would
            # keep it longer.
            reader.close()
