"""Ask the edge's own Storage SCP, as a sender on this host would."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from gateway.config import Configuration
from gateway.config.edge import Edge
from gateway.diagnosis.conversation import Speaks, spoken
from gateway.diagnosis.finding import Finding, Holds, problem
from gateway.diagnosis.local_postgres import stopped_listener
from gateway.dicom.association import PeerAddress
from gateway.dicom.requestor import associate
from gateway.errors import AssociationRejectedError, PeerError
from gateway.forward.opening import VERIFICATIONS

SECONDS = 2.0
_CONGESTED = (3, 1)
_LIMIT = (3, 2)


@dataclass(frozen=True, slots=True)
class OwnPort:
    """What the Storage SCP answers: `text` for the line of the check, and what is wrong."""

    text: str
    findings: tuple[Finding, ...] = ()


def ask(configuration: Configuration) -> OwnPort:
    """Ask for an association and C-ECHO under the title of an allowed sender, if one may call from here."""
    edge = configuration.edge
    host = _host(edge)
    frozen = stopped_listener([edge.port], [])
    if frozen is not None:
        return _wrong(
            "port.frozen",
            f"`mini-pacs serve` at {host}:{edge.port} is stopped: process {frozen} is in state T (SIGSTOP)",
            "senders that reach it wait; a receiver that dies is not started again",
            f"`kill -CONT {frozen}`",
        )
    title = next(iter(_local_callers(edge)), None)
    if title is None or edge.tls is not None:
        return _connect(host, edge.port)
    return _associate(edge, host, title)


def _associate(edge: Edge, host: str, title: str) -> OwnPort:
    where = f"{host}:{edge.port}"
    peer = PeerAddress(host, edge.port, edge.ae_title, SECONDS, SECONDS)
    try:
        with associate(peer, calling_ae_title=title, contexts=VERIFICATIONS) as association:
            association.echo()
    except AssociationRejectedError as error:
        return _rejected(error, where, title)
    except PeerError as error:
        if isinstance(error.__cause__, OSError):
            return _closed(where, error.__cause__)
        says = spoken(host, edge.port, calling_ae_title=title, called_ae_title=edge.ae_title)
        if says not in {Speaks.NOTHING, Speaks.DICOM}:
            return _wrong(
                "port.taken",
                f"Another program has the edge's port {where}: it answers {says}",
                "no sender can reach the edge",
                "end that program, or change edge.port; then `mini-pacs serve`",
            )
        return _wrong(
            "port.silent",
            f"The Storage SCP at {where} takes connections and does not answer within {SECONDS:g} s",
            "senders wait, and get no association",
            "a receiver is frozen or overloaded: see `ps` (state T is stopped: `kill -CONT PID`), or restart "
            "`mini-pacs serve`",
        )
    return OwnPort(f"{where} answers C-ECHO")


def _rejected(error: AssociationRejectedError, where: str, title: str) -> OwnPort:
    kind = error.source, error.reason
    if kind == _CONGESTED:
        return _wrong(
            "port.congested",
            "The Storage SCP rejects every association as transient (temporary congestion)",
            "senders keep their images and send again later",
            "the log says which limit it is (outcome rejected): the disk reserve, an unknown spool, a login "
            "that PostgreSQL refuses, or edge.max_unregistered_hours",
        )
    if kind == _LIMIT:
        return _wrong(
            "port.limit",
            "The Storage SCP has no association left (local limit exceeded)",
            "senders are rejected until one ends",
            "raise edge.max_associations, or end the senders that hold them (the log names them)",
            Holds.RECEPTION,
        )
    return _wrong(
        "port.other",
        f"The program that listens on {where} rejects {title} ({error}): another edge or config.yaml",
        "senders are rejected",
        "restart `mini-pacs serve` with this config.yaml (MINI_PACS_CONFIG)",
    )


def _connect(host: str, port: int) -> OwnPort:
    """Only connect: no sender that may call from this host is known."""
    where = f"{host}:{port}"
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError as error:
        return _closed(where, error)
    return OwnPort(f"{where} accepts connections")


def _closed(where: str, error: OSError) -> OwnPort:
    if isinstance(error, ConnectionRefusedError):
        return _wrong(
            "port.closed",
            f"Nothing listens on the edge's own port {where}",
            "no sender can reach the edge",
            "start it: `mini-pacs serve`; its output and the log say why it ended",
        )
    return _wrong(
        "port.silent",
        f"The edge's own port {where} cannot be reached: {error.strerror or error}",
        "senders may not reach the edge either",
        "look at the firewall of this host, and at edge.bind_address",
    )


def _wrong(key: str, what: str, means: str, remedy: str, holds: Holds = Holds.ALL) -> OwnPort:
    return OwnPort(what, (problem(key, what, means, remedy, holds=holds),))


def _host(edge: Edge) -> str:
    any_address = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
    return any_address.get(edge.bind_address, edge.bind_address)


def _local_callers(edge: Edge) -> Iterator[str]:
    """Yield the AE titles that may call from this host."""
    here = ip_address("127.0.0.1")
    for entry in edge.allowed_callers:
        if entry.origin is None or (entry.network is not None and here in entry.network):
            yield entry.ae_title
