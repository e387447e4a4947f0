"""What the edge turns away: the kinds, the reasons, and who was turned away.

The words of both enums are stored, printed and counted; they are a contract. refusal_words.py says what each
reason means to an operator.
"""

from dataclasses import dataclass
from enum import StrEnum

OTHER = "other"
"""Stands for AE titles and addresses beyond the limit of peers that are counted separately."""


class RefusalKind(StrEnum):
    """At which step a peer was turned away."""

    CONNECTION = "connection"
    TLS = "tls"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    ASSOCIATION = "association"
    CONTEXT = "context"
    C_STORE = "c_store"


class Reason(StrEnum):
    """Why. Each belongs to one kind (KIND_OF)."""

    TOO_MANY_CONNECTIONS = "too_many_connections"

    PEER_SPEAKS_NO_TLS = "peer_speaks_no_tls"
    NO_CLIENT_CERTIFICATE = "no_client_certificate"
    CLIENT_CERTIFICATE_REFUSED = "client_certificate_refused"
    CLOSED_IN_HANDSHAKE = "closed_in_handshake"
    HANDSHAKE_FAILED = "handshake_failed"

    NO_ASSOCIATION_REQUEST = "no_association_request"
    SILENT_IN_A_MESSAGE = "silent_in_a_message"
    IDLE = "idle"

    NOT_DICOM = "not_dicom"
    MALFORMED = "malformed"

    CALLED_AE_TITLE = "called_ae_title"
    CALLING_AE_TITLE = "calling_ae_title"
    CALLING_ADDRESS = "calling_address"
    PROTOCOL = "protocol"
    LIMIT_OF_PEER = "limit_of_peer"
    LIMIT_OF_ALL = "limit_of_all"
    DISK_RESERVE = "disk_reserve"
    UNKNOWN_SPOOL = "unknown_spool"
    NOT_REGISTRABLE = "not_registrable"

    SOP_CLASS = "sop_class"
    TRANSFER_SYNTAX = "transfer_syntax"

    CANNOT_UNDERSTAND = "cannot_understand"
    CONTRADICTION = "contradiction"
    WRONG_CONTEXT = "wrong_context"
    DISK_FULL = "disk_full"
    DISK_ERROR = "disk_error"
    SPOOL_UNUSABLE = "spool_unusable"
    DATABASE_UNUSABLE = "database_unusable"
    FAULT = "fault"
    UNFORESEEN = "unforeseen"


KIND_OF: dict[Reason, RefusalKind] = {
    **dict.fromkeys((Reason.TOO_MANY_CONNECTIONS,), RefusalKind.CONNECTION),
    **dict.fromkeys(
        (
            Reason.PEER_SPEAKS_NO_TLS,
            Reason.NO_CLIENT_CERTIFICATE,
            Reason.CLIENT_CERTIFICATE_REFUSED,
            Reason.CLOSED_IN_HANDSHAKE,
            Reason.HANDSHAKE_FAILED,
        ),
        RefusalKind.TLS,
    ),
    **dict.fromkeys(
        (Reason.NO_ASSOCIATION_REQUEST, Reason.SILENT_IN_A_MESSAGE, Reason.IDLE), RefusalKind.TIMEOUT
    ),
    **dict.fromkeys((Reason.NOT_DICOM, Reason.MALFORMED), RefusalKind.BROKEN),
    **dict.fromkeys(
        (
            Reason.CALLED_AE_TITLE,
            Reason.CALLING_AE_TITLE,
            Reason.CALLING_ADDRESS,
            Reason.PROTOCOL,
            Reason.LIMIT_OF_PEER,
            Reason.LIMIT_OF_ALL,
            Reason.DISK_RESERVE,
            Reason.UNKNOWN_SPOOL,
            Reason.NOT_REGISTRABLE,
        ),
        RefusalKind.ASSOCIATION,
    ),
    **dict.fromkeys((Reason.SOP_CLASS, Reason.TRANSFER_SYNTAX), RefusalKind.CONTEXT),
    **dict.fromkeys(
        (
            Reason.CANNOT_UNDERSTAND,
            Reason.CONTRADICTION,
            Reason.WRONG_CONTEXT,
            Reason.DISK_FULL,
            Reason.DISK_ERROR,
            Reason.SPOOL_UNUSABLE,
            Reason.DATABASE_UNUSABLE,
            Reason.FAULT,
            Reason.UNFORESEEN,
        ),
        RefusalKind.C_STORE,
    ),
}


@dataclass(frozen=True, slots=True)
class Refused:
    """Who was turned away, and why; empty AE titles where the peer had named none yet."""

    reason: Reason
    calling_ae_title: str
    called_ae_title: str
    remote_address: str

    @property
    def peer(self) -> str:
        """The peer as a person writes it: `CT2 at 10.1.2.3`."""
        return f"{self.calling_ae_title or 'a peer'} at {self.remote_address}"

    @property
    def allowlist_entry(self) -> str | None:
        """The entry of edge.allowed_calling_aets that lets it in; None where none would."""
        wanted = self.reason in {Reason.CALLING_AE_TITLE, Reason.CALLING_ADDRESS}
        if not wanted or OTHER in {self.calling_ae_title, self.remote_address}:
            return None
        return f"{self.calling_ae_title}@{self.remote_address}"
