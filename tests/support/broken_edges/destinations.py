"""Destinations that are broken: no TCP, no DICOM, TLS, another title, no C-STORE, paused."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config.destination import DestinationTls
from gateway.dicom.policy import CALLED_AE_TITLE_NOT_RECOGNIZED, CALLING_AE_TITLE_NOT_RECOGNIZED, Rejection
from gateway.forward.deliver import forward_to_pacs
from support import certificates
from support.broken_edges.case import Breaking, case
from support.healthy_edge import HealthyEdge
from support.other_servers import saying, serving, silent
from support.peers import ABORT
from support.synthetic_instances import Instance


@contextmanager
def answering(edge: HealthyEdge, answer: Callable[[socket.socket], object]) -> Iterator[None]:
    """Put another server in the place of the PACS."""
    edge.pacs.off()
    with serving(edge.configuration.forwarder.orthanc.port, answer):
        yield
    edge.pacs.on()


@case("peer:ORTHANC", ("nothing listens", "connection refused"), ("start it", "forwarder.orthanc.host"))
def pacs_not_started(edge: HealthyEdge) -> Breaking:
    """Nothing listens on its port."""
    edge.pacs.off()
    yield
    edge.pacs.on()


@case("peer:ORTHANC", ("no-such-host.invalid", "no address"), "forwarder.orthanc.host")
def pacs_without_address(edge: HealthyEdge) -> Breaking:
    """Its name does not exist."""
    edge.configure_pacs(host="no-such-host.invalid")
    yield
    edge.restore()


@case("peer:ORTHANC", "the name server does not answer", ("DNS", "forwarder.orthanc.host"))
def name_server_hangs(edge: HealthyEdge, monkeypatch: pytest.MonkeyPatch) -> Breaking:
    """Looking up its name does not end."""
    real, hangs = socket.getaddrinfo, threading.Event()

    def lookup(host: Any, *more: Any, **extra: Any) -> Any:
        if host == "pacs.hospital":
            hangs.wait(60)
        return real("127.0.0.1" if host == "pacs.hospital" else host, *more, **extra)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    edge.configure_pacs(host="pacs.hospital")
    yield
    hangs.set()
    edge.restore()


@case("peer:ORTHANC", ("accepts TCP", "does not answer the association request"), "restart ORTHANC")
def pacs_silent(edge: HealthyEdge) -> Breaking:
    """It accepts connections and says nothing."""
    with answering(edge, silent):
        yield


@case("peer:ORTHANC", ("no DICOM", "answers HTTP"), "forwarder.orthanc.port")
def pacs_port_is_http(edge: HealthyEdge) -> Breaking:
    """The port of its web server was entered."""
    with answering(edge, saying(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")):
        yield


@case("peer:ORTHANC", ("no DICOM", "answers SSH"), "forwarder.orthanc.port")
def pacs_port_is_ssh(edge: HealthyEdge) -> Breaking:
    """The port of SSH was entered."""
    with answering(edge, saying(b"SSH-2.0-OpenSSH_9.6\r\n")):
        yield


@case("peer:ORTHANC", ("speaks TLS", "add `tls`"), "forwarder.orthanc.tls")
def pacs_speaks_tls(edge: HealthyEdge, tmp_path: Path) -> Breaking:
    """It expects TLS, and the edge sends plain DICOM."""
    pair = certificates.make(tmp_path / "certificates").edge
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            silent(secure)

    with answering(edge, answer):
        yield


@case("peer:ORTHANC", "speaks plain DICOM", "remove forwarder.orthanc.tls")
def pacs_speaks_plain_dicom(edge: HealthyEdge) -> Breaking:
    """The edge is configured for TLS, and it is not."""
    edge.configure_pacs(tls=DestinationTls(verify="none"))
    yield
    edge.restore()


@case("peer:ORTHANC", ("certificate that the edge refuses", "self-signed"), "forwarder.orthanc.tls.ca")
def pacs_certificate_of_a_stranger(edge: HealthyEdge, tmp_path: Path) -> Breaking:
    """Its certificate is signed by an authority that the edge does not trust."""
    made = certificates.make(tmp_path / "certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.stranger.certificate, made.stranger.key)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            silent(secure)

    edge.configure_pacs(tls=DestinationTls(ca=made.ca))
    with answering(edge, answer):
        yield
    edge.restore()


@case("peer:ORTHANC", ("does not know MINI_EDGE", "calling AE title"), ("enter MINI_EDGE", "edge.ae_title"))
def pacs_rejects_our_title(edge: HealthyEdge) -> Breaking:
    """It does not know the edge."""
    edge.pacs.rejection = CALLING_AE_TITLE_NOT_RECOGNIZED
    yield
    edge.pacs.rejection = None


@case("peer:ORTHANC", "called AE title not recognized", "forwarder.orthanc.ae_title")
def pacs_has_another_title(edge: HealthyEdge) -> Breaking:
    """It has another AE title."""
    edge.pacs.rejection = CALLED_AE_TITLE_NOT_RECOGNIZED
    yield
    edge.pacs.rejection = None


@case("peer:APP03", "temporary congestion", "max_associations_per_peer")
def worker_congested(edge: HealthyEdge) -> Breaking:
    """It accepts no association now."""
    edge.workers["APP03"].rejection = Rejection(2, 3, 1, "temporary_congestion")
    yield
    edge.workers["APP03"].rejection = None


@case("peer:ORTHANC", "ends the connection", "look into the log of ORTHANC")
def pacs_closes(edge: HealthyEdge) -> Breaking:
    """It closes the connection instead of answering."""
    with answering(edge, lambda connection: connection.recv(4096)):
        yield


@case("peer:ORTHANC", "none of 32 usual presentation contexts", "Storage SOP Classes")
def pacs_stores_nothing(edge: HealthyEdge) -> Breaking:
    """It answers C-ECHO, and accepts no Storage SOP Class."""
    accepted, edge.pacs.accepted_sop_classes = edge.pacs.accepted_sop_classes, frozenset()
    yield
    edge.pacs.accepted_sop_classes = accepted


@case("destination.away:ORTHANC", ("answers", "takes no C-STORE"), "destinations resume ORTHANC")
def pacs_aborts_every_store(edge: HealthyEdge) -> Breaking:
    """It answers C-ECHO and aborts at each C-STORE."""
    edge.pacs.answer = lambda _: ABORT
    for _ in range(3):
        forward_to_pacs(edge.core.context, edge.core.owed(Instance()))
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'workers'")
    yield
    edge.pacs.answer = lambda _: 0
    edge.edge.run("DELETE FROM suspects")
    edge.edge.run("UPDATE destinations SET breaker = 'closed', failures_in_row = 0")
    edge.core.due()
    for (delivery,) in edge.edge.rows("SELECT id FROM deliveries WHERE state = 'pending' AND route = 'pacs'"):
        forward_to_pacs(edge.core.context, delivery)
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE state = 'dead'")


@case("destination.away:ORTHANC", ("in the future", "clock of PostgreSQL"), "destinations resume ORTHANC")
def pacs_failed_in_the_future(edge: HealthyEdge) -> Breaking:
    """The clock of PostgreSQL was a day ahead when it failed, so its probe is set for tomorrow."""
    edge.edge.run(
        "UPDATE destinations SET breaker = 'open', changed_at = now() + interval '1 day', reason = 'silent', "
        "next_probe_at = now() + interval '1 day' WHERE ae_title = 'ORTHANC'"
    )
    finding = yield
    edge.apply(finding)
    edge.edge.run("UPDATE destinations SET breaker = 'closed', changed_at = now(), failures_in_row = 0")


@case("destination.paused:APP01", "APP01 is paused", "destinations resume APP01")
def worker_paused(edge: HealthyEdge) -> Breaking:
    """Somebody paused it and forgot it."""
    edge.edge.run("UPDATE destinations SET paused = true, paused_by = 'bob' WHERE ae_title = 'APP01'")
    finding = yield
    edge.apply(finding)
