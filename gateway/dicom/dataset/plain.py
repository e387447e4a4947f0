"""Read values from the plain elements at the beginning of a data set, several times faster than `elements`.

An element is plain if its VR is one of the standard's and its length is given. Most headers have nothing else
before (0020,000E). The first element that is not plain, or is not in the buffer, ends the reading. `Walk`
continues there, and decides what is tolerated and what is an error.
"""

import struct
from collections.abc import Container
from typing import NamedTuple

from gateway.dicom.dataset.encoding import (
    EXPLICIT_LITTLE,
    FILE_META_GROUP,
    HEADER_BYTES,
    LONG_HEADER_BYTES,
    LONG_VRS,
    PREAMBLE_BYTES,
    PREFIX,
    SHORT_VRS,
    VRS,
    Syntax,
)
from gateway.dicom.negotiation import text_of

_SHORT = struct.Struct("<HH2sH")
_LENGTH = struct.Struct("<I")
_IMPLICIT = struct.Struct("<HHI")


class Begin(NamedTuple):
    """Where a `Walk` continues, and the syntax in which the data set is written."""

    position: int
    syntax: Syntax


def read_plain(
    buffer: bytes,
    syntax: Syntax,
    values: dict[int, str],
    *,
    wanted: Container[int],
    until: int,
    max_value_bytes: int,
) -> Begin | None:
    """Add the texts of the `wanted` top-level elements to `values`, up to and with the tag `until`.

    `buffer` holds the first bytes of the data set, which was negotiated in `syntax`. Of each value at most
    `max_value_bytes` are read. Return None, with nothing read, if the first element is not plain.
    """
    written = _as_written(buffer, syntax)
    if written is None:
        return None
    position = 0
    end = len(buffer)
    while position <= end - LONG_HEADER_BYTES:
        if written.explicit:
            group, number, vr, length = _SHORT.unpack_from(buffer, position)
            start = position + HEADER_BYTES
            if vr not in SHORT_VRS:
                if vr not in LONG_VRS:
                    break
                (length,) = _LENGTH.unpack_from(buffer, start)
                start = position + LONG_HEADER_BYTES
        else:
            group, number, length = _IMPLICIT.unpack_from(buffer, position)
            start = position + HEADER_BYTES
        tag = group << 16 | number
        stop = start + length
        if tag > until or stop > end:  # an undefined length reaches beyond every buffer
            break
        if tag in wanted:
            values[tag] = text_of(buffer[start : min(stop, start + max_value_bytes)])
        position = stop
        if tag == until:
            break
    return Begin(position, written)


def _as_written(buffer: bytes, syntax: Syntax) -> Syntax | None:
    """Return the syntax of the first element if that is plain and no File Meta Information."""
    if syntax.big_endian or len(buffer) < HEADER_BYTES:
        return None
    if int.from_bytes(buffer[:2], "little") == FILE_META_GROUP:
        return None
    if buffer[PREAMBLE_BYTES : PREAMBLE_BYTES + len(PREFIX)] == PREFIX:
        return None
    if buffer[4:6] in VRS:
        return EXPLICIT_LITTLE  # whatever was negotiated, as in `Walk`
    return None if syntax.explicit else syntax
