"""The result of one C-STORE, or the reason why it was not completed.

This module translates DIMSE statuses and exceptions to an `Outcome`, and to a text for operators.
`gateway.domain.outcome` decides what follows from it.
"""

import time
from dataclasses import dataclass
from typing import Self

from gateway.dicom.contexts import ProposedContext
from gateway.domain.dimse_status import meaning_of
from gateway.domain.outcome import OUTCOME_OF, Outcome
from gateway.errors import (
    AssociationBrokenError,
    AssociationsBusyError,
    ClaimLostError,
    ContextNotAcceptedError,
    ContextRefusedError,
    FileMissingError,
    PeerAwayError,
    SpoolError,
    StorageNotAcceptedError,
)

_STATUS_TEXT = {
    Outcome.ALREADY_THERE: "it holds that SOP Instance UID already",
    Outcome.NOT_NOW: "not now",
    Outcome.REFUSED: "it refuses this instance",
}

_OUTCOME_OF_ERROR: dict[type[Exception], Outcome] = {
    PeerAwayError: Outcome.AWAY,
    AssociationsBusyError: Outcome.CROWDED,
    ClaimLostError: Outcome.OVERTAKEN,
    ContextNotAcceptedError: Outcome.NEVER,
    ContextRefusedError: Outcome.REFUSED,
    StorageNotAcceptedError: Outcome.TAKES_NOTHING,
    AssociationBrokenError: Outcome.BROKEN,
    # Before SpoolError, which is its base class.
    FileMissingError: Outcome.LOST_FILE,
    SpoolError: Outcome.NOT_READ,
    OSError: Outcome.NOT_READ,
}
"""The first matching entry counts."""

SEND_ERRORS = tuple(_OUTCOME_OF_ERROR)
"""Exceptions that end an attempt with an outcome. Every other exception fails the message of the delivery."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """The outcome of one C-STORE; `status` is None if the peer answered none."""

    outcome: Outcome
    status: int | None
    error: str
    duration_ms: float

    @classmethod
    def of_status(cls, status: int, ae_title: str, sent: ProposedContext, duration_ms: float) -> Self:
        """Return the result for the status of a C-STORE-RSP; `sent` is the context of the instance."""
        outcome = OUTCOME_OF[meaning_of(status)]
        if outcome is Outcome.DELIVERED:
            return cls(outcome, status, "", duration_ms)
        if outcome is Outcome.NEVER:
            text = f"it does not take {sent.sop_class_uid} in {sent.transfer_syntax_uid}"
        else:
            text = _STATUS_TEXT[outcome]
        # Leave out the peer's Error Comment: it may contain patient data (G8).
        return cls(outcome, status, f"{ae_title} answered 0x{status:04X}: {text}", duration_ms)

    @classmethod
    def of_error(cls, error: Exception, duration_ms: float) -> Self:
        """Return the result for one of SEND_ERRORS."""
        outcome = next(outcome for kind, outcome in _OUTCOME_OF_ERROR.items() if isinstance(error, kind))
        return cls(outcome, None, str(error), duration_ms)


def milliseconds_since(began: float) -> float:
    """Return the time since `began`, a monotonic time in seconds."""
    return (time.monotonic() - began) * 1000
