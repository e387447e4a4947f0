"""What a peer answered; why it takes no association: no TCP, a rejection, TLS, another protocol.

Each answer names what is wrong, and the key of config.yaml or the work at the peer that mends it. peer.py
asks the peer. If the peer says nothing that explains itself, it is asked once more here, to see what listens.
"""

import errno
from dataclasses import dataclass

from gateway.config.destination import Destination
from gateway.diagnosis.conversation import Speaks, spoken
from gateway.diagnosis.words import of_tls
from gateway.errors import AssociationAbortedError, AssociationRejectedError, PeerAwayError

STEP_SECONDS = 2.0
"""The limit of each step: name, connection with association, C-ECHO."""

_CALLING, _CALLED, _CONGESTED, _LIMIT = (1, 3), (1, 7), (3, 1), (3, 2)
"""Source and reason of a rejection: PS3.8 §9.3.4, Table 9-21."""


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """What a peer answered: the last step that succeeded; what is wrong, and what to type, if anything."""

    reached: str = ""
    wrong: str = ""
    remedy: str = ""
    means: str = ""


def unreachable(error: OSError, destination: Destination, place: str) -> PeerAnswer:
    """Say why there is no TCP connection."""
    where = f"{destination.host}:{destination.port}"
    if isinstance(error, TimeoutError):
        return PeerAnswer(
            "name",
            f"does not answer at {where} (no answer to TCP within {STEP_SECONDS:g} s)",
            f"the host is off, or a firewall drops the packets; else correct {place}.host and port",
        )
    if isinstance(error, ConnectionRefusedError):
        return PeerAnswer(
            "name",
            f"is not running at {where}: nothing listens on that port (connection refused)",
            f"start it, or correct {place}.host and port",
        )
    is_network = error.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH}
    return PeerAnswer(
        "name",
        f"cannot be reached at {where}: {error.strerror or error}",
        "no route leads there: repair the network" if is_network else f"correct {place}.host and port",
    )


def rejected(error: AssociationRejectedError, destination: Destination, ours: str, place: str) -> PeerAnswer:
    """Say why it rejects the association, by source and reason of A-ASSOCIATE-RJ."""
    title, where = destination.ae_title, f"{destination.host}:{destination.port}"
    kind = error.source, error.reason
    if kind == _CALLING:
        return PeerAnswer(
            "TCP",
            f"rejects the edge: it does not know {ours} (calling AE title not recognized)",
            f"enter {ours} and the address of this host at {title}, or correct edge.ae_title",
        )
    if kind == _CALLED:
        return PeerAnswer(
            "TCP",
            f"is not the AE title of the peer at {where} (called AE title not recognized)",
            f"correct {place}.ae_title to the title of that peer, or its host and port",
        )
    if kind in {_CONGESTED, _LIMIT}:
        word = "temporary congestion" if kind == _CONGESTED else "local limit exceeded"
        return PeerAnswer(
            "TCP",
            f"accepts no further association now ({word})",
            "free its associations or its disk; forwarder.max_associations_per_peer limits those of the edge",
        )
    return PeerAnswer(
        "TCP",
        f"rejects the association without a reason ({error.result}/{error.source}/{error.reason})",
        f"look into the log of {title}: often it does not know {ours}, or not this host's address",
    )


def no_association(error: PeerAwayError, destination: Destination, ours: str, place: str) -> PeerAnswer:
    """Say why there is no association: ask again, to see what listens there."""
    where = f"{destination.host}:{destination.port}"
    title = destination.ae_title
    reason = str(error).partition(": ")[2] or str(error)
    if "certificate refused" in reason:
        return _certificate(reason.rpartition(": ")[2], destination, place)
    says = spoken(destination.host, destination.port, calling_ae_title=ours, called_ae_title=title)
    if says in {Speaks.TLS, Speaks.DICOM}:
        wrong = _about_tls(destination, says, place, reason)
        if wrong is not None:
            return wrong
    elif says is not Speaks.NOTHING:
        return PeerAnswer(
            "TCP", f"is no DICOM at {where}: that port answers {says}", f"correct {place}.port (and host)"
        )
    if isinstance(error, AssociationAbortedError):
        return PeerAnswer(
            "TCP",
            f"ends the connection at {where} instead of answering the association: {reason}",
            f"look into the log of {title}: often it does not know {ours}, or not this host's address",
        )
    return PeerAnswer(
        "TCP",
        f"accepts TCP at {where} and does not answer the association request within {STEP_SECONDS:g} s",
        f"it hangs, or is no DICOM: restart {title}, or correct {place}.port",
    )


def _about_tls(destination: Destination, says: Speaks, place: str, reason: str) -> PeerAnswer | None:
    where = f"{destination.host}:{destination.port}"
    title = destination.ae_title
    if destination.tls is None and says is Speaks.TLS:
        return PeerAnswer(
            "TCP",
            f"speaks TLS at {where}, and the edge sends plain DICOM: add `tls`",
            f"add {place}.tls (see config.yaml)",
        )
    if destination.tls is not None and says is Speaks.DICOM:
        return PeerAnswer(
            "TCP",
            f"speaks plain DICOM at {where}, and {place}.tls is set",
            f"remove {place}.tls, or switch on TLS at {title}",
        )
    if destination.tls is not None:
        return PeerAnswer(
            "TCP",
            f"ends the TLS handshake at {where}: {of_tls(reason)}",
            tls_remedy(reason, title, place),
        )
    return None


def tls_remedy(reason: str, title: str, place: str) -> str:
    """Return the remedy for a peer that refuses the TLS handshake."""
    alert = reason.lower().replace("_", " ")
    if "protocol version" in alert or "no protocols available" in alert or "unsupported protocol" in alert:
        return f"let {title} speak TLS 1.2 or later: the edge speaks no older version"
    if "certificate required" in alert:
        return f"set {place}.tls.certificate and {place}.tls.key: a client certificate that {title} trusts"
    return f"correct {place}.tls (certificate, key, ca), or what {title} trusts"


def _certificate(reason: str, destination: Destination, place: str) -> PeerAnswer:
    low = reason.lower()
    if "expired" in low:
        remedy = f"renew the certificate of {destination.ae_title}"
    elif "hostname" in low or "ip address mismatch" in low:
        remedy = f"set {place}.host to the name in the certificate, or {place}.tls.verify: chain"
    elif "not yet valid" in low:
        remedy = "set the clock of this host"
    else:
        remedy = f"add the CA that signed it to {place}.tls.ca"
    return PeerAnswer("TCP", f"has a certificate that the edge refuses: {reason}", remedy)
