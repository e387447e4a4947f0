"""Command sets: Implicit VR Little Endian, group 0000, a few elements (PS3.7 §6.3.1 and §E.1)."""

import struct
from collections.abc import Iterable

from gateway.dicom.negotiation import text_of
from gateway.dicom.pdu import PduError

# PS3.7 §E.1, Table E.1-1; the element numbers of group 0000
AFFECTED_SOP_CLASS_UID = 0x0002
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
PRIORITY = 0x0700
COMMAND_DATA_SET_TYPE = 0x0800
STATUS = 0x0900
ERROR_COMMENT = 0x0902
AFFECTED_SOP_INSTANCE_UID = 0x1000

# The same table: command fields
C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
C_ECHO_RQ = 0x0030
C_ECHO_RSP = 0x8030
C_CANCEL_RQ = 0x0FFF
IS_RESPONSE = 0x8000

NO_DATA_SET = 0x0101
_DATA_SET = 0x0001

MAX_COMMAND_BYTES = 64 * 1024
MAX_ERROR_COMMENT = 64  # VR LO: PS3.5 §6.2

_ELEMENT = struct.Struct("<HHI")
_US_ELEMENT = struct.Struct("<HHIH")
_UL_ELEMENT = struct.Struct("<HHII")
_RESPONSE = struct.Struct("<HHIHHHIHHHIHHHIH")
"""The four elements of VR US that every response has."""


class CommandSet:
    """A received command set; values are decoded by the methods that return them."""

    __slots__ = ("_values",)

    def __init__(self, raw: bytes | bytearray) -> None:
        """Index the elements.

        Raises:
            PduError: an element is cut off.
        """
        self._values: dict[int, bytes] = {}
        raw = bytes(raw)  # a slice of it needs no second copy
        position, end = 0, len(raw)
        while position < end:
            if end - position < _ELEMENT.size:
                raise PduError("element header cut off in a command set")
            group, element, length = _ELEMENT.unpack_from(raw, position)
            position += _ELEMENT.size
            if length > end - position:
                raise PduError(f"element ({group:04X},{element:04X}) cut off in a command set")
            if group == 0:
                self._values[element] = raw[position : position + length]
            position += length

    def number(self, element: int) -> int | None:
        """Return the value of an element of VR US; None if it is missing or malformed."""
        value = self._values.get(element)
        return int.from_bytes(value, "little") if value is not None and len(value) == 2 else None  # noqa: PLR2004  US

    def text(self, element: int) -> str:
        """Return the value of a string element without padding, not validated; empty if it is missing."""
        return text_of(self._values.get(element, b""))

    def required(self, element: int) -> int:
        """Return the value of an element of VR US.

        Raises:
            PduError: the element is missing or malformed.
        """
        number = self.number(element)
        if number is None:
            raise PduError(f"command set without (0000,{element:04X})")
        return number

    def has_data_set(self) -> bool:
        """Tell whether a data set follows: only 0x0101 means that none does (PS3.7 §E.1, Table E.1-1)."""
        return self.required(COMMAND_DATA_SET_TYPE) != NO_DATA_SET


def _us(element: int, value: int) -> bytes:
    return _US_ELEMENT.pack(0, element, 2, value)


def _string(element: int, value: str, pad: bytes) -> bytes:
    raw = value.encode("ascii", "replace")
    if len(raw) % 2:
        raw += pad
    return _ELEMENT.pack(0, element, len(raw)) + raw


def _command_set(elements: Iterable[bytes]) -> bytes:
    body = b"".join(elements)
    return _UL_ELEMENT.pack(0, 0, 4, len(body)) + body  # (0000,0000) Command Group Length


def c_store_request(message_id: int, sop_class_uid: str, sop_instance_uid: str, priority: int) -> bytes:
    """Return a C-STORE-RQ: PS3.7 §9.3.1.1, Table 9.3-1."""
    return _command_set(
        (
            _string(AFFECTED_SOP_CLASS_UID, sop_class_uid, b"\0"),
            _us(COMMAND_FIELD, C_STORE_RQ),
            _us(MESSAGE_ID, message_id),
            _us(PRIORITY, priority),
            _us(COMMAND_DATA_SET_TYPE, _DATA_SET),
            _string(AFFECTED_SOP_INSTANCE_UID, sop_instance_uid, b"\0"),
        )
    )


def c_echo_request(message_id: int, sop_class_uid: str) -> bytes:
    """Return a C-ECHO-RQ: PS3.7 §9.3.5.1, Table 9.3-12."""
    return _command_set(
        (
            _string(AFFECTED_SOP_CLASS_UID, sop_class_uid, b"\0"),
            _us(COMMAND_FIELD, C_ECHO_RQ),
            _us(MESSAGE_ID, message_id),
            _us(COMMAND_DATA_SET_TYPE, NO_DATA_SET),
        )
    )


def response(request: CommandSet, status: int, error_comment: str = "") -> bytes:
    """Return the response to any request, with its UIDs: PS3.7 §9.3.1.2, Table 9.3-2, and §C."""
    sop_class_uid = request.text(AFFECTED_SOP_CLASS_UID)
    elements = [
        _string(AFFECTED_SOP_CLASS_UID, sop_class_uid, b"\0") if sop_class_uid else b"",
        _RESPONSE.pack(
            *(0, COMMAND_FIELD, 2, request.required(COMMAND_FIELD) | IS_RESPONSE),
            *(0, MESSAGE_ID_BEING_RESPONDED_TO, 2, request.required(MESSAGE_ID)),
            *(0, COMMAND_DATA_SET_TYPE, 2, NO_DATA_SET),
            *(0, STATUS, 2, status),
        ),
    ]
    if error_comment and status:
        elements.append(_string(ERROR_COMMENT, error_comment[:MAX_ERROR_COMMENT], b" "))
    sop_instance_uid = request.text(AFFECTED_SOP_INSTANCE_UID)
    if sop_instance_uid:
        elements.append(_string(AFFECTED_SOP_INSTANCE_UID, sop_instance_uid, b"\0"))
    return _command_set(elements)
