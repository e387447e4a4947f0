"""Say in words what a reason of a delivery means for images, and what to do."""

from gateway.domain.delivery import State
from gateway.domain.dimse_status import Meaning, meaning_of, name_of

_OF_STATUS = {
    Meaning.DUPLICATE_UID: "The peer has an instance with this UID, perhaps with other bytes.",
    Meaning.NOT_NOW: "The peer could not store anything at its last answer.",
    Meaning.REFUSED: "The peer refuses this instance: a retry helps only if something changes there.",
    Meaning.NEVER: "The peer does not take this kind of instance: a retry is useless until it does.",
}
_OF_STATE = {
    State.COLLECTING: "It waits for the rest of its series or study.",
    State.PENDING: "It is sent as soon as the target can take it.",
    State.IN_FLIGHT: "It is being sent.",
    State.DEAD: "The edge gave up. It is not at this target, and stays so until somebody retries it.",
    State.CANCELLED: "Somebody cancelled it. It is not at this target; retry or resend sends it.",
    State.DELIVERED: "It is at this target.",
}


def meaning(state: State, status: int | None) -> str:
    """Return what a state means for images, and what the last DIMSE status of the peer adds."""
    text = _OF_STATE[state]
    if status is None or state is State.DELIVERED:
        return text
    return f"{text} {_OF_STATUS.get(meaning_of(status), '')}".strip()


def status_name(status: int | None) -> str:
    """Return a DIMSE status with its name in the standard, as `0xA700 Refused: out of resources`."""
    return "" if status is None else f"0x{status:04X} {name_of(status)}"
