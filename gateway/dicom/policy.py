"""The interface between an acceptor and its owner: what the owner decides, and which events it gets.

The acceptor has no allowlist, spool or database. The owners (`gateway.receive`, the PACS of the lab, tests)
implement these protocols, and handle no PDUs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from gateway.dicom.contexts import Answer, Offer


@dataclass(frozen=True, slots=True)
class Rejection:
    """The fields of an A-ASSOCIATE-RJ (PS3.8 §9.3.4, Table 9-21); `word` is the reason in the log."""

    result: int
    source: int
    reason: int
    word: str


CALLED_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 7, "called_aet_not_recognized")
CALLING_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 3, "calling_aet_not_allowed")
CALLING_ADDRESS_NOT_ALLOWED = Rejection(1, 1, 3, "calling_address_not_allowed")
"""The AE title is allowed, but not from that address. The peer gets the same A-ASSOCIATE-RJ as for an unknown
title, so that it cannot find out which titles are allowed."""
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2, "local_limit_exceeded")
TEMPORARY_CONGESTION = Rejection(2, 3, 1, "temporary_congestion")

APPLICATION_CONTEXT_NOT_SUPPORTED = Rejection(1, 1, 2, "application_context_not_supported")
PROTOCOL_VERSION_NOT_SUPPORTED = Rejection(1, 2, 2, "protocol_version_not_supported")


@dataclass(frozen=True, slots=True, eq=False)
class Requestor:
    """The requestor of one association; its AE titles are without padding, and not validated.

    Two objects are never equal: the same address and port may have associations with several of our
    addresses.
    """

    calling_ae_title: str
    called_ae_title: str
    remote_address: str
    remote_port: int


class StoreRequest(NamedTuple):
    """The content of a C-STORE-RQ (PS3.7 §9.3.1.1, Table 9.3-1). UIDs are not validated, `""` if missing.

    `priority` is 0 for MEDIUM, 1 for HIGH, 2 for LOW.
    """

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    priority: int


class AbortAssociation(Exception):  # noqa: N818  a command to the acceptor, not an error
    """Raised by a `Policy` or `StoreHandler`: the acceptor sends A-ABORT (service-user) and closes."""


class StoreHandler(Protocol):
    """Receives one data set and decides the response. Either `finish` or `abandon` is called, once."""

    def write(self, *fragments: memoryview) -> None:
        """Store the next bytes of the data set; the views are valid only during the call."""

    def finish(self) -> tuple[int, str]:
        """Return the status and the error comment (at most 64 characters, or `""`) for the complete data set.

        Both are sent as soon as this returns. So return Success only for a durable instance.
        """

    def answered(self) -> None:
        """Do the work that must not delay the response; called after it, even if sending it failed."""

    def abandon(self, reason: str) -> None:
        """Discard the data: the association ended before the data set was complete."""


class Policy(Protocol):
    """The decisions of the owner of an `Acceptor`; called on the thread of the association."""

    @property
    def accepted_sop_classes(self) -> frozenset[str]:
        """Storage SOP Class UIDs to accept."""

    def admit(self, requestor: Requestor) -> Rejection | None:
        """Return None to admit the requestor, or the rejection to send; log a rejection."""

    def store(self, requestor: Requestor, request: StoreRequest) -> StoreHandler:
        """Return the handler for the data set of a C-STORE-RQ."""

    def ended(self, requestor: Requestor, outcome: str, error: str | None) -> None:
        """Note the end of an admitted association; called once for each.

        `outcome` is released, aborted_by_peer, aborted (by us), lost, timeout or stopped.
        """

    def ended_unadmitted(self, remote_address: str, outcome: str, error: str) -> None:
        """Note the end of a connection that did not become an association, unless `admit` rejected it.

        `outcome` is one of those of `ended`, or rejected (unknown protocol version or application context;
        `error` is the `word` of the rejection).
        """


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may be silent.

    `artim_seconds` limits the time until its A-ASSOCIATE-RQ is complete, `network_seconds` a pause within a
    message, `idle_seconds` a pause between two messages.
    """

    artim_seconds: float
    network_seconds: float
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class Observer:
    """What the acceptor calls when it turns a peer away without asking its `Policy`. No call may block.

    `broken` gets the requestor (None before it is admitted), its address, and the error: TlsError,
    TimedOutError, IdleError or PduError. `not_stored` gets the SOP Instance UID of a C-STORE that was
    answered with a failure before its data set came, the status and the comment.
    """

    broken: Callable[[Requestor | None, str, Exception], None] = lambda *_: None
    not_stored: Callable[[Requestor, str, int, str], None] = lambda *_: None


Declined = Callable[[Requestor, Sequence[tuple[Offer, Answer]]], None]


def _ignore(requestor: Requestor, declined: Sequence[tuple[Offer, Answer]]) -> None:
    """Do nothing."""


@dataclass(slots=True)
class Contexts:
    """How presentation contexts are negotiated, in addition to the SOP Classes of the `Policy`.

    A change counts for the next associations.
    """

    transfer_syntaxes: tuple[str, ...] = ()
    """The accepted transfer syntaxes, in order of preference; empty accepts all, uncompressed ones first."""
    declined: Declined = field(default=_ignore)
    """Called once for an admitted association if contexts that it offered were not accepted."""
