"""Ask one peer as a forwarder does: its name, TCP, TLS, an association with our titles, Verification.

Each step has a limit of two seconds. What the peer refuses is named in words, with the key of config.yaml
that has to be changed, or what to do at the peer.
"""

import errno
import socket
from dataclasses import dataclass, replace

from gateway.config import Configuration
from gateway.config.destination import Destination
from gateway.diagnosis.bounded import HangsError, within
from gateway.diagnosis.conversation import Speaks, spoken
from gateway.diagnosis.words import of_tls
from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.contexts import VERIFICATION
from gateway.dicom.requestor import associate
from gateway.domain.dimse_status import Status, name_of
from gateway.errors import (
    AssociationAbortedError,
    AssociationRejectedError,
    ConfigurationError,
    PeerAwayError,
    PeerError,
)
from gateway.forward.opening import COMMON, VERIFICATIONS, may_be_due_to_contexts
from gateway.forward.peer import address_of

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


def key_of(configuration: Configuration, ae_title: str) -> str:
    """Return the place of a destination in config.yaml."""
    forwarder = configuration.forwarder
    if forwarder.orthanc.ae_title == ae_title:
        return "forwarder.orthanc"
    if any(archive.ae_title == ae_title for archive in forwarder.archives):
        return f"forwarder.archives[{ae_title}]"
    for name, application in forwarder.applications.items():
        if any(worker.ae_title == ae_title for worker in application.workers):
            return f"forwarder.applications.{name}.workers[{ae_title}]"
    return f"forwarder.workers[{ae_title}]"


def ask(configuration: Configuration, destination: Destination) -> PeerAnswer:
    """Ask a destination; each step may be the last."""
    place = key_of(configuration, destination.ae_title)
    found = _look_up(destination, place)
    if isinstance(found, PeerAnswer):
        return found
    return with_addresses(_converse(configuration, destination, place), destination.host, found, place)


def with_addresses(answer: PeerAnswer, host: str, addresses: list[str], place: str) -> PeerAnswer:
    """Name the addresses behind a host name where the wrong host may have answered, or none."""
    if not answer.wrong or host in addresses or answer.reached not in {"name", "TCP"}:
        return answer
    return replace(
        answer,
        wrong=f"{answer.wrong}; {host} has the address {' and '.join(addresses)}",
        remedy=f"{answer.remedy}; if that address is wrong, correct DNS or /etc/hosts, or {place}.host",
    )


def _look_up(destination: Destination, place: str) -> list[str] | PeerAnswer:
    """Return the addresses of its host name, or what is wrong."""
    try:
        found = within(
            STEP_SECONDS,
            lambda: socket.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM),
        )
    except HangsError:
        return PeerAnswer(
            wrong=f"cannot be looked up: the name server does not answer for {destination.host}",
            remedy=f"repair DNS (/etc/resolv.conf), or write an IP address into {place}.host",
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        return PeerAnswer(
            wrong=f"cannot be looked up: the host name {destination.host} has no address ({reason})",
            remedy=f"correct {place}.host, or the name server",
        )
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _converse(configuration: Configuration, destination: Destination, place: str) -> PeerAnswer:
    """Open an association and send a C-ECHO."""
    try:
        peer = address_of(destination, configuration.forwarder)
    except ConfigurationError as error:
        return PeerAnswer("TCP", f"cannot be reached: {error}", "repair that file; `mini-pacs config check`")
    quick = replace(peer, timeout_seconds=STEP_SECONDS, connect_timeout_seconds=STEP_SECONDS)
    ours = configuration.edge.ae_title
    try:
        association = _associate(quick, ours)
    except AssociationRejectedError as error:
        return _rejected(error, destination, ours, place)
    except PeerAwayError as error:
        if isinstance(error.__cause__, OSError):
            return _unreachable(error.__cause__, destination, place)
        return _no_association(error, destination, ours, place)
    return _verify(association, destination, place)


def _unreachable(error: OSError, destination: Destination, place: str) -> PeerAnswer:
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


def _associate(peer: PeerAddress, ours: str) -> Association:
    try:
        return associate(peer, calling_ae_title=ours, contexts=[*VERIFICATIONS, *COMMON])
    except PeerAwayError as refusal:
        if not may_be_due_to_contexts(refusal):
            raise
        try:
            return associate(peer, calling_ae_title=ours, contexts=VERIFICATIONS)
        except PeerAwayError as error:
            raise refusal from error


def _rejected(error: AssociationRejectedError, destination: Destination, ours: str, place: str) -> PeerAnswer:
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


def _no_association(error: PeerAwayError, destination: Destination, ours: str, place: str) -> PeerAnswer:
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


def _verify(association: Association, destination: Destination, place: str) -> PeerAnswer:
    title = destination.ae_title
    has_verification = any(context.sop_class_uid == VERIFICATION for context in association.accepted)
    stores = any(context.sop_class_uid != VERIFICATION for context in association.accepted)
    proposed = any(context.sop_class_uid != VERIFICATION for context in association.proposed)
    try:
        status = association.echo() if has_verification else Status.SUCCESS
        association.release()
    except PeerError as error:
        reason = str(error)
        return PeerAnswer(
            "association",
            f"accepts an association and does not answer C-ECHO: {reason}",
            f"restart {title}; `mini-pacs destinations echo {title}`",
        )
    if status != Status.SUCCESS:
        return PeerAnswer(
            "association",
            f"answers C-ECHO with 0x{status:04X} ({name_of(status)})",
            f"look into the log of {title}",
        )
    if proposed and not stores:
        return PeerAnswer(
            "C-ECHO" if has_verification else "association",
            f"accepts an association, but none of {len(COMMON)} usual presentation contexts for storage",
            f"let {title} accept the Storage SOP Classes that the edge sends; is {place}.port a Storage SCP?",
            "instances wait for forwarder.give_up_after_hours, then they are dead",
        )
    return PeerAnswer("C-ECHO" if has_verification else "an association")
