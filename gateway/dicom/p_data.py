"""A message cut into P-DATA PDUs, several of them to one write.

The data set is read straight into the buffer it is sent from, behind the headers that are packed
around it; the command set travels with the first of it, so that a small instance is one segment.
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
_HEAD = DATA_PDU_HEADER.size
_CONTROL_OFFSET = HEADER.size + PDV_HEADER.size - 1
"""Where the message control header stands in a P-DATA PDU with one PDV."""


@runtime_checkable
class Readable(Protocol):
    """What an open binary file offers."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read at least one byte into `buffer`; 0 at the end."""


class _Pieces:
    """An iterable of bytes, as something to read from."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        """Copy from the current piece, or the next that is not empty."""
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
    """The data set as something to read from."""
    if isinstance(data_set, Readable):
        return data_set
    return _Pieces(data_set)


def pdu_batches(head: bytes, context_id: int, source: Readable, fragment_bytes: int) -> Iterator[memoryview]:
    """What to write: `head` (the command's PDUs), then the data set in PDVs of `fragment_bytes`.

    A view is valid until the next but one is asked for. An empty data set is one empty last PDV.
    """
    size = max(_BATCH_BYTES, _HEAD + fragment_bytes) + len(head)
    buffers = itertools.cycle([memoryview(bytearray(size))])
    current = next(buffers)
    current[: len(head)] = head
    end, last, is_whole = _compose(current, len(head), context_id, source, fragment_bytes)
    if not is_whole:
        # Which fragment is the last is known only when the next one was tried: two buffers in turn.
        buffers = itertools.cycle([memoryview(bytearray(size)), current])
    while not is_whole:
        following = next(buffers)
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
    """Fill `buffer` with whole PDUs: where they end, where the last begins, whether `source` has ended."""
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


def _read_fully(source: Readable, room: memoryview) -> int:
    count = 0
    while count < len(room):
        more = source.readinto(room[count:])
        if not more:
            break
        count += more
    return count
