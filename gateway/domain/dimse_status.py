"""The C-STORE statuses that the edge answers, and the meaning of those that a peer answers.

Sources: PS3.4 §B.2.3, Table B.2-1 (C-STORE) and PS3.7 Annex C (general status classes).
"""

from enum import Enum, IntEnum, auto


class Status(IntEnum):
    """The statuses that the Storage SCP answers."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110  # PS3.7 §C.5.16
    SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 §C.5.6
    UNRECOGNIZED_OPERATION = 0x0211  # PS3.7 §C.5.23
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


class Meaning(Enum):
    """The meaning of a peer's C-STORE status for the instance."""

    STORED = auto()  # the peer has the instance
    DUPLICATE_UID = auto()  # the peer has an instance with this UID, perhaps with other bytes
    NOT_NOW = auto()  # the peer cannot store anything now
    REFUSED = auto()  # the peer refuses this instance; a retry may succeed
    NEVER = auto()  # the peer does not support the SOP Class; a retry is useless


_WARNING = 0xB000
_REFUSED_RESOURCES = 0xA700
_CLASS_MASK = 0xF000
_GROUP_MASK = 0xFF00

_EXACT: dict[int, Meaning] = {
    0x0000: Meaning.STORED,  # Success
    0x0001: Meaning.STORED,  # Warning: Requested optional attributes are not supported, PS3.7 §C.4.2
    0x0107: Meaning.STORED,  # Warning: Attribute list error, PS3.7 §C.4.2
    0x0116: Meaning.STORED,  # Warning: Attribute value out of range, PS3.7 §C.4.3
    0x0111: Meaning.DUPLICATE_UID,  # Failure: Duplicate SOP Instance, PS3.7 §C.5.8
    0x0213: Meaning.NOT_NOW,  # Failure: Resource limitation, PS3.7 §C.5.22
    0x0124: Meaning.NOT_NOW,  # Failure: Refused: Not authorized, PS3.7 §C.5.19
    0x0122: Meaning.NEVER,  # Failure: SOP Class not supported, PS3.7 §C.5.6
}


def meaning_of(status: int) -> Meaning:
    """Return the meaning of `status`; an unknown status means REFUSED."""
    exact = _EXACT.get(status)
    if exact is not None:
        return exact
    if status & _CLASS_MASK == _WARNING:
        return Meaning.STORED
    if status & _GROUP_MASK == _REFUSED_RESOURCES:
        return Meaning.NOT_NOW
    return Meaning.REFUSED


_NAMES = {
    0x0000: "Success",
    0x0001: "Warning: requested optional attributes are not supported",
    0x0105: "Failure: no such attribute",
    0x0106: "Failure: invalid attribute value",
    0x0107: "Warning: attribute list error",
    0x0110: "Failure: processing failure",
    0x0111: "Failure: duplicate SOP Instance",
    0x0112: "Failure: no such SOP Instance",
    0x0116: "Warning: attribute value out of range",
    0x0117: "Failure: invalid SOP Instance",
    0x0118: "Failure: no such SOP Class",
    0x0119: "Failure: class-instance conflict",
    0x0120: "Failure: missing attribute",
    0x0122: "Refused: SOP Class not supported",
    0x0124: "Refused: not authorized",
    0x0210: "Failure: duplicate invocation",
    0x0211: "Failure: unrecognized operation",
    0x0212: "Failure: mistyped argument",
    0x0213: "Failure: resource limitation",
    0xB000: "Warning: coercion of data elements",
    0xB006: "Warning: elements discarded",
    0xB007: "Warning: data set does not match SOP Class",
    0xFE00: "Cancel",
}
_NAMES_OF_GROUPS = {
    0xA700: "Refused: out of resources",
    0xA900: "Error: data set does not match SOP Class",
    0xB000: "Warning",
}
_CANNOT_UNDERSTAND = 0xC000


def name_of(status: int) -> str:
    """Return the name of a C-STORE or C-ECHO status: PS3.4 §B.2.3, Table B.2-1 and PS3.7 Annex C."""
    if status in _NAMES:
        return _NAMES[status]
    if status & _CLASS_MASK == _CANNOT_UNDERSTAND:
        return "Error: cannot understand"
    return _NAMES_OF_GROUPS.get(status & _GROUP_MASK, "a status that the standard does not define")
