"""What the owner of an acceptor decides, and what it is told: the seam between engine and gateway.

The engine knows DICOM and nothing of allowlists, spool or database; whoever implements these
protocols (`gateway.receive`, the stand-in PACS, a test) knows nothing of PDUs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.dicom.contexts import Answer, Offer


@dataclass(frozen=True, slots=True)
class Rejection:
    """A-ASSOCIATE-RJ of PS3.8 §9.3.4, Table 9-21; `word` is what the log says."""

    result: int
    source: int
    reason: int
    word: str


CALLED_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 7, "called_aet_not_recognized")
CALLING_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 3, "calling_aet_not_allowed")
CALLING_ADDRESS_NOT_ALLOWED = Rejection(1, 1, 3, "calling_address_not_allowed")
"""Known by its title, but not from there. The caller hears no difference: it would tell which are known."""
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2, "local_limit_exceeded")
TEMPORARY_CONGESTION = Rejection(2, 3, 1, "temporary_congestion")

APPLICATION_CONTEXT_NOT_SUPPORTED = Rejection(1, 1, 2, "application_context_not_supported")
PROTOCOL_VERSION_NOT_SUPPORTED = Rejection(1, 2, 2, "protocol_version_not_supported")


@dataclass(frozen=True, slots=True, eq=False)
class Requestor:
    """Who asks for an association; its AE titles are without padding, and not validated.

    Equal to itself alone: one address and port may have associations with several addresses of ours.
    """

    calling_ae_title: str
    called_ae_title: str
    remote_address: str
    remote_port: int


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a C-STORE-RQ says (PS3.7 §9.3.1.1, Table 9.3-1). UIDs are not validated; `""` where missing.

    `priority` is 0 for MEDIUM, 1 for HIGH, 2 for LOW.
    """

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    priority: int


class AbortAssociation(Exception):  # noqa: N818  an order to the engine, not an error of it
    """Raised by a `Policy` or `StoreHandler`: the engine sends A-ABORT (service-user) and ends."""


class StoreHandler(Protocol):
    """One data set on its way in. Exactly one of `finish` and `abandon` is called, once."""

    def write(self, fragment: memoryview) -> None:
        """Take the next bytes of the data set; the view is valid during the call only."""

    def finish(self) -> tuple[int, str]:
        """Answer status and error comment (at most 64 characters, `""` for none) of the whole data set."""

    def answered(self) -> None:
        """Do what need not keep the peer waiting: the answer of `finish` was sent, or could not be."""

    def abandon(self, reason: str) -> None:
        """Forget it: the association ended in the middle of the data set."""


class Policy(Protocol):
    """What the owner of an `Acceptor` decides. Called on the association's thread."""

    @property
    def accepted_sop_classes(self) -> frozenset[str]:
        """Storage SOP Class UIDs to accept."""

    def admit(self, requestor: Requestor) -> Rejection | None:
        """Let the requestor in (None), or say how it is rejected."""

    def store(self, requestor: Requestor, request: StoreRequest) -> StoreHandler:
        """Begin the reception of a data set."""

    def ended(self, requestor: Requestor, outcome: str, error: str | None) -> None:
        """Take note that an admitted association ended; once for each.

        `outcome` is released, aborted_by_peer, aborted (by us), lost, timeout or stopped.
        """

    def ended_unadmitted(self, remote_address: str, outcome: str, error: str) -> None:
        """Take note that a connection ended before anyone was admitted, and not by `admit`.

        `outcome` is one of the above, or rejected (no DICOM 3; `error` is the word of the rejection).
        """


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may be silent: before its A-ASSOCIATE-RQ is whole, in a message, between messages."""

    artim_seconds: float
    network_seconds: float
    idle_seconds: float


Declined = Callable[[Requestor, Sequence[tuple[Offer, Answer]]], None]


def _tells_nobody(requestor: Requestor, declined: Sequence[tuple[Offer, Answer]]) -> None:
    """Drop it."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """How presentation contexts are negotiated, beside the SOP Classes of the `Policy`."""

    transfer_syntaxes: tuple[str, ...] = ()
    """Those that are accepted, the preferred first; empty accepts all and prefers uncompressed ones."""
    declined: Declined = field(default=_tells_nobody)
    """Called once for an admitted association that offered contexts which were not accepted."""
