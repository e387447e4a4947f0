"""Find out what listens on a port: DICOM, TLS, HTTP, something else, or something that says nothing.

The port gets an A-ASSOCIATE-RQ, as from any sender. Nothing is proposed that a peer would store.
"""

import socket
import ssl
from contextlib import closing, suppress
from enum import StrEnum
from typing import TypeVar

from gateway.diagnosis.bounded import HangsError, RunningCheck
from gateway.dicom import pdu
from gateway.dicom.contexts import VERIFICATION, Offer
from gateway.dicom.negotiation import encode_request

T = TypeVar("T")

SECONDS = 1.5
_ANSWER_BYTES = 512
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
"""Alert and handshake of TLS 1.0 to 1.3: RFC 8446 §5.1."""
_DICOM = {pdu.ASSOCIATE_AC, pdu.ASSOCIATE_RJ, pdu.ABORT}
_IMPLICIT = "1.2.840.10008.1.2"


class Speaks(StrEnum):
    """What a port answers."""

    DICOM = "plain DICOM"
    TLS = "TLS"
    HTTP = "HTTP"
    SSH = "SSH"
    POSTGRES = "PostgreSQL's protocol"
    MAIL = "SMTP or FTP"
    OTHER = "something that is no DICOM"
    NOTHING = "nothing"


_BEGINNINGS = {
    b"http/": Speaks.HTTP,
    b"<!doctype": Speaks.HTTP,
    b"<html": Speaks.HTTP,
    b"<?xml": Speaks.HTTP,
    b"ssh-": Speaks.SSH,
    b"220 ": Speaks.MAIL,
    b"220-": Speaks.MAIL,
    b"e\x00\x00\x00": Speaks.POSTGRES,
}
"""How an answer begins, in lower case."""


def spoken(host: str, port: int, *, calling_ae_title: str, called_ae_title: str) -> Speaks:
    """Return what the port speaks; NOTHING also if it cannot be reached any more."""
    request = encode_request(
        called_ae_title=called_ae_title,
        calling_ae_title=calling_ae_title,
        offers=[Offer(1, VERIFICATION, (_IMPLICIT,))],
        max_pdu_bytes=pdu.OUR_MAX_PDU_BYTES,
    )
    answer = _answer(host, port, request)
    known = kind_of(answer)
    if known not in {Speaks.NOTHING, Speaks.OTHER}:
        return known
    # At the same time: a peer that says nothing would else take the time of each, one after the other.
    tls = RunningCheck(2 * SECONDS, lambda: _speaks_tls(host, port))
    # An HTTP server may wait for the end of a request that our PDU does not have.
    options = b"OPTIONS / HTTP/1.0\r\n\r\n"
    http = RunningCheck(2 * SECONDS, lambda: kind_of(_answer(host, port, options)))
    if _ended(tls, otherwise=False):
        return Speaks.TLS
    return _ended(http, otherwise=Speaks.NOTHING) if known is Speaks.NOTHING else known


def _ended(running: RunningCheck[T], *, otherwise: T) -> T:
    try:
        return running.result()
    except HangsError:
        return otherwise


def kind_of(answer: bytes) -> Speaks:
    """Return which protocol the first bytes of an answer belong to."""
    if not answer:
        return Speaks.NOTHING
    if answer[0] in _DICOM and answer[1] == 0:
        return Speaks.DICOM
    if answer.startswith(_TLS_RECORDS):
        return Speaks.TLS
    start = answer[:64].lstrip().lower()
    return next(
        (kind for beginning, kind in _BEGINNINGS.items() if start.startswith(beginning)), Speaks.OTHER
    )


def _answer(host: str, port: int, request: bytes) -> bytes:
    """Return the first bytes that the port answers to `request`; empty if it answers none."""
    with (
        suppress(OSError),
        closing(socket.create_connection((host, port), timeout=SECONDS)) as connection,
    ):
        connection.settimeout(SECONDS)
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        return connection.recv(_ANSWER_BYTES)
    return b""


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only asked whether it speaks TLS; nothing is sent over it
    try:
        with (
            closing(socket.create_connection((host, port), timeout=SECONDS)) as connection,
            context.wrap_socket(connection),
        ):
            return True
    except ssl.SSLError as error:
        return "alert" in str(error).lower()  # it answered with an alert of TLS
    except OSError:
        return False
