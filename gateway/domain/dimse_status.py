"""The C-STORE statuses we answer and what a peer means by those it answers.

Sources: PS3.4 §B.2.3, Table B.2-1 (C-STORE) and PS3.7 Annex C (general status classes).
"""

from enum import Enum, IntEnum, auto


class Status(IntEnum):
    """What we answer as a Storage SCP, and what our code names."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110  # PS3.7 §C.5.16
    SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 §C.5.6
    UNRECOGNIZED_OPERATION = 0x0211  # PS3.7 §C.5.23
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


class Meaning(Enum):
    """What a peer's C-STORE status says about the instance."""

    HAS_IT = auto()
    HAS_THAT_UID = auto()
    NOT_NOW = auto()
    REFUSED = auto()
    NEVER = auto()


_WARNING = 0xB000
_REFUSED_RESOURCES = 0xA700
_CLASS_MASK = 0xF000
_GROUP_MASK = 0xFF00

_EXACT: dict[int, Meaning] = {
    0x0000: Meaning.HAS_IT,  # Success
    0x0001: Meaning.HAS_IT,  # Warning: Requested optional attributes are not supported, PS3.7 §C.4.2
    0x0107: Meaning.HAS_IT,  # Warning: Attribute list error, PS3.7 §C.4.2
    0x0116: Meaning.HAS_IT,  # Warning: Attribute value out of range, PS3.7 §C.4.3
    0x0111: Meaning.HAS_THAT_UID,  # Failure: Duplicate SOP Instance, PS3.7 §C.5.8
    0x0213: Meaning.NOT_NOW,  # Failure: Resource limitation, PS3.7 §C.5.22
    0x0124: Meaning.NOT_NOW,  # Failure: Refused: Not authorized, PS3.7 §C.5.19
    0x0122: Meaning.NEVER,  # Failure: SOP Class not supported, PS3.7 §C.5.6
}


def meaning_of(status: int) -> Meaning:
    """What the peer says by `status`; unknown values are a refusal of this instance."""
    exact = _EXACT.get(status)
    if exact is not None:
        return exact
    if status & _CLASS_MASK == _WARNING:
        return Meaning.HAS_IT
    if status & _GROUP_MASK == _REFUSED_RESOURCES:
        return Meaning.NOT_NOW
    return Meaning.REFUSED
