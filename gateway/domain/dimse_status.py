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
