"""Find out how elements were written where the negotiated syntax does not say it, or a program ignored it.

`Walk` (elements.py) asks at the first element of a data set, at a VR that is none, and at a value with
implicit VR that may be a sequence. Each answer is the one that leads to another element.
"""

import struct

from gateway.dicom.dataset.encoding import (
    DELIMITERS,
    EXPLICIT_LITTLE,
    HEADER_BYTES,
    IMPLICIT_LITTLE,
    LONG_HEADER_BYTES,
    NOT_VRS,
    UNDEFINED,
    VRS,
    Syntax,
    may_be_vr,
)
from gateway.dicom.dataset.reader import Reader


def syntax_as_written(reader: Reader, position: int, syntax: Syntax) -> Syntax:
    """Return the syntax of the first element, which is at `position`, whatever was negotiated."""
    found = reader.at(position, HEADER_BYTES)
    if syntax.big_endian or found is None:
        return syntax
    buffer, at = found
    vr = bytes(buffer[at + 4 : at + 6])
    if vr in VRS:
        return EXPLICIT_LITTLE
    if syntax.explicit and may_be_vr(vr):
        return EXPLICIT_LITTLE if _begins_with_long_form(reader, position) else IMPLICIT_LITTLE
    if syntax.explicit:
        # Either an invalid VR or an implicit data set: see what follows the first element.
        short = int.from_bytes(buffer[at + 6 : at + 8], "little")
        if _is_followed(reader, position + HEADER_BYTES + short, "<", end=None, is_inside=False):
            return EXPLICIT_LITTLE
    return IMPLICIT_LITTLE


def _begins_with_long_form(reader: Reader, position: int) -> bool:
    """Tell whether the length of the first element is plausible, if it is read in the long form."""
    found = reader.at(position, LONG_HEADER_BYTES)
    if found is None:
        return False
    buffer, at = found
    length = int.from_bytes(buffer[at + 8 : at + 12], "little")
    return _is_followed(reader, position + LONG_HEADER_BYTES + length, "<", end=None, is_inside=False)


def length_without_vr(
    reader: Reader, written: bytes, start: int, order: str, *, end: int | None, is_inside: bool
) -> int:
    """Return the length of an element whose VR is invalid, in an explicit data set.

    `written` are the four bytes between tag and `start`, in the byte `order` of `struct`. For `end` and
    `is_inside` see `_is_followed`.

    Either the length has two bytes, as DCMTK reads it after a VR that is not two capital letters
    (dcvr.cc). Or the element is implicit, and the length has four bytes. The length that leads to another
    element is the right one.
    """
    long = int(struct.unpack(order + "I", written)[0])
    short = int(struct.unpack_from(order + "H", written, 2)[0])
    if long == UNDEFINED:
        return long
    if _is_followed(reader, start + short, order, end=end, is_inside=is_inside):
        return short
    if _is_followed(reader, start + long, order, end=end, is_inside=is_inside):
        return long
    return long if not short and reader.reaches(start + long) else short


def _is_followed(reader: Reader, position: int, order: str, *, end: int | None, is_inside: bool) -> bool:
    """Tell whether an explicit element, an item, a delimiter or the end is at `position`.

    `is_inside`: a sequence or item is around it, which ends at `end`, or has no length.
    """
    if position == end:
        return True
    found = reader.at(position, HEADER_BYTES)
    if found is None:
        return not is_inside and reader.reaches(position) and not reader.reaches(position + 1)
    buffer, at = found
    group, number = struct.unpack_from(order + "HH", buffer, at)
    vr = bytes(buffer[at + 4 : at + 6])
    is_delimiter = group << 16 | number in DELIMITERS
    return vr in VRS or vr in NOT_VRS or (is_delimiter and is_inside)


def holds_items(reader: Reader, start: int, length: int, syntax: Syntax) -> bool:
    """Tell whether the value begins with an item; with implicit VR, only this shows a sequence."""
    found = reader.at(start, 4) if length >= HEADER_BYTES else None
    if found is None:
        return False
    buffer, at = found
    return bytes(buffer[at : at + 4]) == (b"\xff\xfe\xe0\x00" if syntax.big_endian else b"\xfe\xff\x00\xe0")
