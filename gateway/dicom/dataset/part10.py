"""Write and read the File Meta Information of Part 10 files (PS3.10 §7.1).

It is Explicit VR Little Endian in every file, whatever the transfer syntax of the data set is. The
code uses `struct`, because it runs for each received instance.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from gateway.dicom.dataset.encoding import LONG_VRS
from gateway.dicom.negotiation import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    ae_title_field,
    text_of,
)
from gateway.errors import DataSetError

PREAMBLE = bytes(128) + b"DICM"

# PS3.10 §7.1, Table 7.1-1; the element numbers of group 0002
_GROUP_LENGTH = 0x0000
_VERSION = 0x0001
_MEDIA_STORAGE_SOP_CLASS_UID = 0x0002
_MEDIA_STORAGE_SOP_INSTANCE_UID = 0x0003
_TRANSFER_SYNTAX_UID = 0x0010
_IMPLEMENTATION_CLASS_UID = 0x0012
_IMPLEMENTATION_VERSION_NAME = 0x0013
_SOURCE_AE_TITLE = 0x0016
_OF_FILE_META = frozenset(
    {
        _MEDIA_STORAGE_SOP_CLASS_UID,
        _MEDIA_STORAGE_SOP_INSTANCE_UID,
        _TRANSFER_SYNTAX_UID,
        _SOURCE_AE_TITLE,
    }
)
_RECEIVING_AE_TITLE = 0x0018
_PRIVATE_INFORMATION_CREATOR_UID = 0x0100
_PRIVATE_INFORMATION = 0x0102

PRIVATE_INFORMATION_CREATOR_UID = f"{IMPLEMENTATION_CLASS_UID}.1"
"""Says that (0002,0102) holds an envelope of the gateway."""

_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHI")
_GROUP = b"\x02\x00"


_GROUP_LENGTH_END = len(PREAMBLE) + _SHORT.size + 4


@dataclass(frozen=True, slots=True)
class FileMeta:
    """The values of a Part 10 header, not validated; the data set begins at byte `data_set_offset`."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set_offset: int
    source_ae_title: str = ""


def _short(element: int, vr: bytes, value: bytes) -> bytes:
    return _SHORT.pack(0x0002, element, vr, len(value)) + value


def _uid(element: int, uid: str) -> bytes:
    raw = uid.encode("ascii", "replace")
    return _short(element, b"UI", raw + b"\0" if len(raw) % 2 else raw)


_OURS = _uid(_IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_CLASS_UID) + _short(
    _IMPLEMENTATION_VERSION_NAME, b"SH", IMPLEMENTATION_VERSION_NAME.encode()
)
_VERSION_1 = _LONG.pack(0x0002, _VERSION, b"OB", 0, 2) + b"\0\1"


def preamble_and_file_meta(
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    *,
    source_ae_title: str,
    receiving_ae_title: str = "",
    private_bytes: int = 0,
) -> bytes:
    """Return what precedes the data set in a Part 10 file: preamble, DICM and File Meta Information.

    With `private_bytes` (even) it ends with (0002,0102), which has that many zero bytes. They are the last
    bytes of the returned value, so that the caller can write them later.
    """
    before, after = _file_meta_around(
        sop_class_uid, transfer_syntax_uid, source_ae_title, receiving_ae_title, private_bytes
    )
    instance = _uid(_MEDIA_STORAGE_SOP_INSTANCE_UID, sop_instance_uid)
    length = (len(before) + len(instance) + len(after)).to_bytes(4, "little")
    return b"".join((PREAMBLE, _short(_GROUP_LENGTH, b"UL", length), before, instance, after))


@lru_cache(maxsize=64)
def _file_meta_around(
    sop_class_uid: str,
    transfer_syntax_uid: str,
    source_ae_title: str,
    receiving_ae_title: str,
    private_bytes: int,
) -> tuple[bytes, bytes]:
    """Return the elements before and after the SOP Instance UID, which all instances of a series share."""
    after = [
        _uid(_TRANSFER_SYNTAX_UID, transfer_syntax_uid),
        _OURS,
        _short(_SOURCE_AE_TITLE, b"AE", ae_title_field(source_ae_title)),
    ]
    if receiving_ae_title:
        after.append(_short(_RECEIVING_AE_TITLE, b"AE", ae_title_field(receiving_ae_title)))
    if private_bytes:
        after.append(_private_information(private_bytes))
    return _VERSION_1 + _uid(_MEDIA_STORAGE_SOP_CLASS_UID, sop_class_uid), b"".join(after)


def _private_information(length: int) -> bytes:
    head = _LONG.pack(0x0002, _PRIVATE_INFORMATION, b"OB", 0, length)
    return _uid(_PRIVATE_INFORMATION_CREATOR_UID, PRIVATE_INFORMATION_CREATOR_UID) + head + bytes(length)


def own_private_information(header: bytes | memoryview) -> bytes | None:
    """Return (0002,0102) of a file that the gateway wrote; None if the file has none of the gateway's.

    Only elements within the group length count. A received data set may itself begin with elements of group
    0002, which belong to the data set.

    Raises:
        DataSetError: it is no Part 10 file, or `header` is too short.
    """
    end = own_data_set_offset(header)
    if end > len(header):
        raise DataSetError("File Meta Information cut off")
    is_ours = False
    for element, start, stop in _elements(header[:end], len(PREAMBLE)):
        if element == _PRIVATE_INFORMATION_CREATOR_UID:
            is_ours = text_of(bytes(header[start:stop])) == PRIVATE_INFORMATION_CREATOR_UID
        elif element == _PRIVATE_INFORMATION and is_ours:
            return bytes(header[start:stop])
    return None


def own_data_set_offset(header: bytes | memoryview) -> int:
    """Return the offset of the data set in a file that begins with `preamble_and_file_meta`.

    The group length determines it. A received data set may itself begin with elements of group 0002, which
    belong to the data set.

    Raises:
        DataSetError: it is no Part 10 file, or it does not begin with (0002,0000).
    """
    if bytes(header[128:132]) != b"DICM":
        raise DataSetError("no Part 10 file: DICM is missing")
    end = _end_by_group_length(header)
    if end is None:
        raise DataSetError("File Meta Information without its group length")
    return end


def read_file_meta(header: bytes | memoryview) -> FileMeta:
    """Decode the first bytes of a Part 10 file; a few KiB are enough for any normal file.

    In a file that the gateway wrote, the group length determines where the File Meta Information ends. In any
    other file it ends with the last element of group 0002, because many programs write a wrong group length.

    Raises:
        DataSetError: it is no Part 10 file, or `header` is too short.
    """
    if bytes(header[128:132]) != b"DICM":
        raise DataSetError("no Part 10 file: DICM is missing")
    values: dict[int, str] = {}
    end = len(PREAMBLE)
    own_end = _end_by_group_length(header)
    if own_end is not None and own_end <= len(header) and _OURS in bytes(header[end:own_end]):
        header = header[:own_end]
    for element, start, stop in _elements(header, end):
        end = stop
        if element in _OF_FILE_META:
            values[element] = text_of(bytes(header[start:end]))
    if not values.get(_TRANSFER_SYNTAX_UID):
        raise DataSetError("File Meta Information without a Transfer Syntax UID")
    return FileMeta(
        sop_class_uid=values.get(_MEDIA_STORAGE_SOP_CLASS_UID, ""),
        sop_instance_uid=values.get(_MEDIA_STORAGE_SOP_INSTANCE_UID, ""),
        transfer_syntax_uid=values[_TRANSFER_SYNTAX_UID],
        data_set_offset=end,
        source_ae_title=values.get(_SOURCE_AE_TITLE, ""),
    )


def _end_by_group_length(header: bytes | memoryview) -> int | None:
    """Return where the File Meta Information ends by (0002,0000); None if that is not the first element."""
    start = len(PREAMBLE)
    if bytes(header[start : start + _SHORT.size]) != _SHORT.pack(0x0002, _GROUP_LENGTH, b"UL", 4):
        return None
    length = bytes(header[start + _SHORT.size : _GROUP_LENGTH_END])
    return _GROUP_LENGTH_END + int.from_bytes(length, "little") if len(length) == 4 else None  # noqa: PLR2004  UL


def _elements(header: bytes | memoryview, position: int) -> Iterator[tuple[int, int, int]]:
    """Yield element number, start and end of each value of group 0002."""
    while bytes(header[position : position + 2]) == _GROUP:
        if len(header) - position < _LONG.size:
            raise DataSetError("File Meta Information cut off")
        _, element, vr, length = _SHORT.unpack_from(header, position)
        start = position + _SHORT.size
        if vr in LONG_VRS:
            length = _LONG.unpack_from(header, position)[4]
            start = position + _LONG.size
        position = start + length
        if position > len(header):
            raise DataSetError("File Meta Information cut off")
        yield element, start, position
