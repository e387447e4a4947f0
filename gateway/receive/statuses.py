"""Translate an error of a reception into the DIMSE status that the sender gets.

This table is the only place where an error becomes a status. The comment goes into Error Comment
(0000,0902); where the table has none, the error's own message is used.
"""

from gateway.domain.dimse_status import Status
from gateway.domain.refusal import Reason
from gateway.errors import (
    ContradictionError,
    DataSetError,
    GatewayError,
    NotRegistrableError,
    SpoolError,
    SpoolFullError,
    UnknownSpoolError,
)

UNFORESEEN = "unforeseen error, see the edge's log"


class InjectedRefusalError(GatewayError):
    """An injected fault refuses this instance."""


STATUS_OF: tuple[tuple[type[Exception], Status, str, Reason], ...] = (
    # PS3.4 §B.2.3, Table B.2-1. The first class that matches decides, so subclasses come first.
    (InjectedRefusalError, Status.OUT_OF_RESOURCES, "", Reason.FAULT),
    (SpoolFullError, Status.OUT_OF_RESOURCES, "the disk is full", Reason.DISK_FULL),
    (SpoolError, Status.OUT_OF_RESOURCES, "the edge cannot write to its disk", Reason.DISK_ERROR),
    (
        NotRegistrableError,
        Status.OUT_OF_RESOURCES,
        "the database cannot be used, see the edge's log",
        Reason.DATABASE_UNUSABLE,
    ),
    (
        UnknownSpoolError,
        Status.OUT_OF_RESOURCES,
        "the spool cannot be used, see the edge's log",
        Reason.SPOOL_UNUSABLE,
    ),
    (ContradictionError, Status.DATA_SET_DOES_NOT_MATCH, "", Reason.CONTRADICTION),
    (DataSetError, Status.CANNOT_UNDERSTAND, "", Reason.CANNOT_UNDERSTAND),
)


def status_of(error: Exception) -> tuple[Status, str, Reason]:
    """Return status, comment and reason of `error`; one outside of the table is a Processing failure."""
    for known, status, comment, reason in STATUS_OF:
        if isinstance(error, known):
            return status, comment or str(error), reason
    return Status.PROCESSING_FAILURE, UNFORESEEN, Reason.UNFORESEEN
