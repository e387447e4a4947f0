"""The bytes of a data set on disk, read piecewise by position.

What the walker of `elements` skips is not read. What it reads is bounded, whatever lengths a stranger wrote.
"""

import mmap
import os
import zlib
from typing import Protocol

from gateway.errors import DataSetError

MAX_EXAMINED_BYTES = 16 << 20
"""A header of this size is not one: the largest seen (private elements, icons) are some hundred KiB."""

_FIRST_STEP = 16 * 1024
_JUMP_STEP = 4 * 1024
_LARGEST_STEP = 256 * 1024
_GROWTH = 4


class ExaminedEnoughError(DataSetError):
    """The bound on what is read of one data set is reached."""


class Reader(Protocol):
    """Random access to a data set."""

    def at(self, position: int, count: int) -> tuple[bytes | mmap.mmap, int] | None:
        """A buffer that holds `count` bytes from `position` on, and where in it; None past the end.

        Raises:
            ExaminedEnoughError: too much was read.
        """

    def reaches(self, position: int) -> bool:
        """Tell whether the data set is at least `position` bytes long."""

    def close(self) -> None:
        """Give the memory back; nothing is read any more."""


class FileReader:
    """A data set that stands in a file as it is, from `offset` to the end of the file."""

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
            # A value was skipped: the next elements may be few. Else: what is read in a row grows.
            is_jump = start > len(self._buffer)
            self._step = _JUMP_STEP if is_jump else min(self._step * _GROWTH, _LARGEST_STEP)
        step = max(self._step, count)
        self._examined += min(step, self._size - position)
        if self._examined > MAX_EXAMINED_BYTES:
            raise ExaminedEnoughError("the header is too large")
        self._buffer = os.pread(self._descriptor, step, self._offset + position)
        self._position = position
        if len(self._buffer) < count:
            return None  # the file became shorter since
        return self._buffer, 0

    def reaches(self, position: int) -> bool:
        """See `Reader`."""
        return position <= self._size

    def close(self) -> None:
        """See `Reader`."""
        self._buffer = b""


class InflatedReader:
    """A data set that stands deflated in a file (PS3.5 §A.5); inflated as far as it is asked for."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        # Pages of its own, taken as they are written and given back whole: the allocator would keep what a
        # bomb took, once for each of its arenas.
        self._inflated = mmap.mmap(-1, MAX_EXAMINED_BYTES + _LARGEST_STEP)
        self._end = 0
        first = os.pread(descriptor, 2, offset)
        # Raw deflate by the standard; some write a zlib header: CM = 8, and a multiple of 31 (RFC 1950).
        has_header = len(first) == 2 and first[0] & 0x0F == 8 and int.from_bytes(first) % 31 == 0  # noqa: PLR2004
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)

    def _inflate_to(self, end: int) -> bool:
        while self._end < end:
            if end > MAX_EXAMINED_BYTES:
                raise ExaminedEnoughError("the deflated header is too large")
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
