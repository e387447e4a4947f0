"""Connections of misbehaving clients: half-open, cut off, mutated, endless."""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.dicom import pdu
from gateway.dicom.contexts import VERIFICATION, Offer
from gateway.dicom.negotiation import encode_request
from support.dicom_peers import CT, IMPLICIT, echo_command, p_data, pdv, store_command

Break = Callable[[socket.socket], None]


def request(calling: str = "ORTHANC", called: str = "MINI_EDGE") -> bytes:
    """Return a valid A-ASSOCIATE-RQ."""
    return encode_request(
        called_ae_title=called,
        calling_ae_title=calling,
        offers=(Offer(1, CT, (IMPLICIT,)), Offer(3, VERIFICATION, (IMPLICIT,))),
        max_pdu_bytes=16_384,
    )


def _associated(sock: socket.socket, then: bytes = b"") -> None:
    sock.sendall(request())
    sock.recv(4096)
    sock.sendall(then)


def _mutated() -> bytes:
    raw = bytearray(request())
    raw[74:90] = bytes(255 - byte for byte in raw[74:90])
    return bytes(raw)


def _reset(sock: socket.socket) -> None:
    _associated(sock, p_data(store_command()))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


BROKEN: tuple[Break, ...] = (
    lambda _: None,
    lambda sock: sock.sendall(b"\x01"),
    lambda sock: sock.sendall(request()[:100]),
    lambda sock: sock.sendall(_mutated()),
    lambda sock: sock.sendall(b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n"),
    lambda sock: sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)),
    lambda sock: sock.sendall(pdu.HEADER.pack(pdu.ASSOCIATE_RQ, 0xFFFF_FFFF) + bytes(1000)),
    lambda sock: sock.sendall(p_data(echo_command())),
    lambda sock: sock.sendall(request(calling="NOBODY")),
    _associated,
    lambda sock: _associated(sock, p_data(store_command())),
    lambda sock: _associated(sock, p_data(store_command(), pdv(1, 0, bytes(10_000)))),
    lambda sock: _associated(sock, p_data(store_command(), pdv(1, 0, bytes(10_000)))[:5000]),
    lambda sock: _associated(sock, p_data(pdv(9, 3, bytes(100)))),
    lambda sock: _associated(sock, p_data(pdv(1, 1, bytes(60_000)), pdv(1, 1, bytes(60_000)))),
    lambda sock: _associated(sock, pdu.HEADER.pack(pdu.P_DATA_TF, 0x7FFF_FFFF) + bytes(1000)),
    lambda sock: _associated(sock, pdu.HEADER.pack(0x77, 4) + bytes(4)),
    lambda sock: _associated(sock, request()),
    lambda sock: _associated(sock, pdu.abort_pdu(pdu.SERVICE_USER, 0)),
    _reset,
)
"""Each misbehaves in its own way; the connection stays open until the caller closes it."""


def break_off(port: int, harm: Break) -> None:
    """Open a connection, misbehave, and close it."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock, contextlib.suppress(OSError):
        harm(sock)


@contextmanager
def held_open(port: int, harm: Break) -> Iterator[socket.socket]:
    """Yield such a connection, open for the length of the `with`."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        with contextlib.suppress(OSError):  # the gateway may close first
            harm(sock)
        yield sock
