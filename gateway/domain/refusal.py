"""What the edge turns away: the kinds and reasons, what each means, and what an operator changes.

The words of both enums are stored, printed and counted; they are a contract.
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


def meaning(reason: Reason) -> str:
    """Return what happened, as the rest of a sentence that begins with the peer."""
    return _TEXTS[reason][0]


def remedy(refused: Refused, *, edge_ae_title: str = "edge.ae_title") -> str:
    """Return what to change, for an operator; empty if nothing needs to be changed."""
    text = _TEXTS[refused.reason][1]
    if refused.allowlist_entry is not None:
        text = f"if it may send, add to edge.allowed_calling_aets: {refused.allowlist_entry}"
    return text.format(edge=edge_ae_title, called=refused.called_ae_title)


_TEXTS: dict[Reason, tuple[str, str]] = {
    Reason.TOO_MANY_CONNECTIONS: (
        "opened more connections than the edge serves, without an association",
        "end that program, or let a firewall keep it out; lower edge.artim_timeout_seconds",
    ),
    Reason.PEER_SPEAKS_NO_TLS: (
        "spoke no TLS, and edge.tls demands it",
        "turn TLS on at the sender, or remove edge.tls",
    ),
    Reason.NO_CLIENT_CERTIFICATE: (
        "presented no client certificate",
        "give the sender a certificate that edge.tls.ca signed, or set edge.tls.client_certificate: none",
    ),
    Reason.CLIENT_CERTIFICATE_REFUSED: (
        "presented a client certificate that edge.tls.ca did not sign",
        "give the sender a valid certificate that edge.tls.ca signed",
    ),
    Reason.CLOSED_IN_HANDSHAKE: (
        "closed the connection during the TLS handshake",
        "let the sender trust the certificate of edge.tls.certificate; a probe of the port does this, too",
    ),
    Reason.HANDSHAKE_FAILED: (
        "and the edge found no common TLS version, cipher or certificate",
        "let the sender use TLS 1.2 or later and trust the certificate of edge.tls.certificate",
    ),
    Reason.NO_ASSOCIATION_REQUEST: (
        "opened a connection and sent no A-ASSOCIATE-RQ within edge.artim_timeout_seconds",
        "is it a probe of the port, or a peer that speaks TLS while edge.tls is not set?",
    ),
    Reason.SILENT_IN_A_MESSAGE: (
        "was silent in the middle of a message for edge.network_timeout_seconds",
        "look at the network between them, then at the sender; it must send again",
    ),
    Reason.IDLE: (
        "kept an association open without a message for edge.idle_timeout_seconds",
        "",
    ),
    Reason.NOT_DICOM: (
        "did not speak DICOM",
        "point that program elsewhere; a peer that speaks TLS needs edge.tls",
    ),
    Reason.MALFORMED: (
        "sent what PS3.8 or PS3.7 forbids",
        "ask the vendor of the sender; the log has each case",
    ),
    Reason.CALLED_AE_TITLE: (
        "called another AE title than that of the edge",
        "let the sender call {edge}, not {called}",
    ),
    Reason.CALLING_AE_TITLE: (
        "is not in edge.allowed_calling_aets",
        "if it may send, add its AE title to edge.allowed_calling_aets",
    ),
    Reason.CALLING_ADDRESS: (
        "is in edge.allowed_calling_aets for other addresses only",
        "if it may send from there, add that address to edge.allowed_calling_aets",
    ),
    Reason.PROTOCOL: (
        "asked for another protocol version or application context",
        "ask the vendor of the sender",
    ),
    Reason.LIMIT_OF_PEER: (
        "has as many associations open as edge.max_associations_per_peer allows",
        "let it release associations that it does not use, or raise edge.max_associations_per_peer",
    ),
    Reason.LIMIT_OF_ALL: (
        "came while as many associations were open as edge.max_associations allows",
        "let the holders release associations that they do not use, or raise edge.max_associations",
    ),
    Reason.DISK_RESERVE: (
        "came while the free space was down to edge.disk_reserve_mb",
        "free space on the disk of edge.data_root; see `mini-pacs status`",
    ),
    Reason.UNKNOWN_SPOOL: (
        "came while spool and database did not belong together",
        "`mini-pacs status` says what to type",
    ),
    Reason.NOT_REGISTRABLE: (
        "came while the edge could not register what it receives",
        "`mini-pacs status` says why PostgreSQL cannot be used",
    ),
    Reason.SOP_CLASS: (
        "offered a SOP Class that the edge does not accept",
        "if it may send it, add its UID to edge.additional_sop_classes",
    ),
    Reason.TRANSFER_SYNTAX: (
        "offered a SOP Class in transfer syntaxes only that the edge does not accept",
        "add one of them to edge.accepted_transfer_syntaxes, or let the sender offer another",
    ),
    Reason.CANNOT_UNDERSTAND: (
        "sent an instance that could not be read",
        "ask the vendor of the sender; the detail names the element",
    ),
    Reason.CONTRADICTION: (
        "sent an instance whose command and data set name different UIDs",
        "ask the vendor of the sender",
    ),
    Reason.WRONG_CONTEXT: (
        "sent an instance in the presentation context of another SOP Class",
        "ask the vendor of the sender; or add the SOP Class to edge.additional_sop_classes",
    ),
    Reason.DISK_FULL: (
        "sent an instance while the disk was full",
        "free space on the disk of edge.data_root; the sender must send again",
    ),
    Reason.DISK_ERROR: (
        "sent an instance that could not be written",
        (
            "`mini-pacs serve` makes a deleted folder again within seconds; else look at its owner "
            "(`ls -ld`) and at the disk of edge.data_root (`dmesg`); the sender must send again"
        ),
    ),
    Reason.SPOOL_UNUSABLE: (
        "sent an instance while spool and database did not belong together",
        "`mini-pacs status` says what to type; the sender must send again",
    ),
    Reason.DATABASE_UNUSABLE: (
        "sent an instance while the edge could not register it",
        "`mini-pacs status` says why PostgreSQL cannot be used; the sender must send again",
    ),
    Reason.FAULT: (
        "sent an instance that an injected fault refused",
        "`mini-pacs clear-faults` ends it; the sender must send again",
    ),
    Reason.UNFORESEEN: (
        "sent an instance that caused an unforeseen error",
        "send the log of the edge to its maintainers; the sender must send again",
    ),
}
