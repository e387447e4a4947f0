"""Cut a message into P-DATA PDUs, and group several PDUs into one write.

The data set is read directly into the buffer that is sent, after each PDU header. The first write contains
the command set and the first part of the data set, so that a small instance is one TCP segment.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from gateway.dicom.pdu import (
    DATA_PDU_HEADER,
    HEADER,
    IS_LAST,
    P_DATA_TF,
    PDV_HEADER,
    PDV_OVERHEAD,
    data_pdu_header,
)

_BATCH_BYTES = 256 * 1024
_PAGE_BYTES = 4096
"""Sizes of buffers are rounded up, so that a slightly longer command set needs no new buffer."""
_HEAD = DATA_PDU_HEADER.size
_CONTROL_OFFSET = HEADER.size + PDV_HEADER.size - 1
"""The offset of the message control header in a P-DATA PDU with one PDV."""


@runtime_checkable
class Readable(Protocol):
    """Something to read from, such as an open binary file."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read at least one byte into `buffer`, and return how many; 0 at the end."""


class _Pieces:
    """A `Readable` over an iterable of bytes."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        """Copy from the current piece, or from the next one that is not empty."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece).cast("B")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def readable(data_set: Readable | Iterable[bytes | memoryview]) -> Readable:
    """Return the data set as a `Readable`."""
    if isinstance(data_set, Readable):
        return data_set
    return _Pieces(data_set)


class PduBuffers:
    """The buffers from which an association writes its messages, one after the other.

    They are kept as long as the association. New ones for each message may cost more CPU than all the rest of
    a small instance, because the kernel clears their pages.
    """

    def __init__(self) -> None:
        self._buffers = [memoryview(b""), memoryview(b"")]

    def take(self, index: int, size: int) -> memoryview:
        """Return the first or second buffer, which has at least `size` bytes; what it held may be lost."""
        if len(self._buffers[index]) < size:
            self._buffers[index] = memoryview(bytearray(-(-size // _PAGE_BYTES) * _PAGE_BYTES))
        return self._buffers[index]


def pdu_batches(
    head: bytes, context_id: int, source: Readable, fragment_bytes: int, buffers: PduBuffers
) -> Iterator[memoryview]:
    """Yield the bytes of each write: `head` (the command's PDUs), then PDVs of `fragment_bytes`.

    A view is valid until the next one is requested. An empty data set becomes one empty last PDV.
    """
    size = max(_BATCH_BYTES, _HEAD + fragment_bytes) + len(head)
    current = buffers.take(0, size)
    current[: len(head)] = head
    end, last, is_whole = _compose(current, len(head), context_id, source, fragment_bytes)
    if not is_whole:
        # Only the next read shows whether a fragment is the last one. So two buffers are used in turn.
        in_turn = itertools.cycle([buffers.take(1, size), current])
    while not is_whole:
        following = next(in_turn)
        following_end, following_last, is_whole = _compose(following, 0, context_id, source, fragment_bytes)
        if not following_end:
            break
        yield current[:end]
        current, end, last = following, following_end, following_last
    if last is None:
        current[end : end + _HEAD] = data_pdu_header(context_id, IS_LAST, 0)
        end += _HEAD
    else:
        current[last + _CONTROL_OFFSET] = IS_LAST
    yield current[:end]


def _compose(
    buffer: memoryview, start: int, context_id: int, source: Readable, fragment_bytes: int
) -> tuple[int, int | None, bool]:
    """Fill `buffer` with whole PDUs.

    Return where they end, where the last one begins, and whether `source` has ended.
    """
    last: int | None = None
    while len(buffer) - start >= _HEAD + fragment_bytes:
        count = _read_fully(source, buffer[start + _HEAD : start + _HEAD + fragment_bytes])
        if count:
            DATA_PDU_HEADER.pack_into(
                buffer, start, P_DATA_TF, count + PDV_OVERHEAD, count + 2, context_id, 0
            )
            last = start
            start += _HEAD + count
        if count < fragment_bytes:
            return start, last, True
    return start, last, False


def _read_fully(source: Readable, space: memoryview) -> int:
    count = 0
    while count < len(space):
        more = source.readinto(space[count:])
        if not more:
            break
        count += more
    return count
