"""What each reason of a refusal means, and what an operator changes; refusal.py has the reasons."""

from gateway.domain.refusal import Reason, Refused

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


def meaning(reason: Reason) -> str:
    """Return what happened, as the rest of a sentence that begins with the peer."""
    return _TEXTS[reason][0]


def remedy(refused: Refused, *, edge_ae_title: str = "edge.ae_title") -> str:
    """Return what to change, for an operator; empty if nothing needs to be changed."""
    text = _TEXTS[refused.reason][1]
    if refused.allowlist_entry is not None:
        text = f"if it may send, add to edge.allowed_calling_aets: {refused.allowlist_entry}"
    return text.format(edge=edge_ae_title, called=refused.called_ae_title)
