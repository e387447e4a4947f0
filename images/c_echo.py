"""Send a C-ECHO to a Storage SCP, for health checks in containers.

It uses only the standard library, because it runs every few seconds: importing a DICOM library each time
would need more CPU than the idle gateway. The PDUs are those of PS3.8 §9.3, the message that of PS3.7 §9.3.5.
"""

import socket
import struct

SECONDS = 4.0
VERIFICATION = b"1.2.840.10008.1.1"
IMPLICIT_VR_LITTLE_ENDIAN = b"1.2.840.10008.1.2"
APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
IMPLEMENTATION = b"1.2.826.0.1.3680043.9.3811.3.0.4"
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ = 0x01, 0x02, 0x03, 0x04, 0x05
C_ECHO_RQ, NO_DATA_SET, SUCCESS = 0x0030, 0x0101, 0x0000
COMMAND_LAST_FRAGMENT = 3
REJECTED_TRANSIENT, REJECTION_BYTES = 2, 4


class NotHealthyError(Exception):
    """The answer was not Success; the message has the answer."""


class RejectedError(NotHealthyError):
    """The association was rejected: result, source and reason of PS3.8 §9.3.4, Table 9-21."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(f"rejected, {result}/{source}/{reason}")
        self.is_transient = result == REJECTED_TRANSIENT


def connect(host: str, port: int) -> socket.socket:
    """Return a TCP connection.

    Raises:
        OSError: the host cannot be reached, or did not answer in time.
    """
    return socket.create_connection((host, port), timeout=SECONDS)


def c_echo(host: str, port: int, *, calling: str, called: str) -> None:
    """Send a C-ECHO, and return when the SCP has answered Success.

    Raises:
        RejectedError: the SCP rejected the association.
        NotHealthyError: the SCP answered anything else.
        OSError: the SCP cannot be reached, or did not answer in time.
    """
    with connect(host, port) as connection:
        connection.sendall(_pdu(ASSOCIATE_RQ, _associate(calling, called)))
        kind, body = _read(connection)
        if kind == ASSOCIATE_RJ and len(body) == REJECTION_BYTES:
            raise RejectedError(*body[1:])
        if kind != ASSOCIATE_AC:
            raise NotHealthyError(f"no association: PDU type {kind:#04x}, {body.hex()}")
        connection.sendall(_pdu(P_DATA, _fragment(_echo_request())))
        kind, body = _read(connection)
        if kind != P_DATA or _status(body) != SUCCESS:
            raise NotHealthyError(f"no Success: PDU type {kind:#04x}, {body.hex()}")
        connection.sendall(_pdu(RELEASE_RQ, bytes(4)))
        _read(connection)


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _associate(calling: str, called: str) -> bytes:
    titles = called.encode().ljust(16) + calling.encode().ljust(16)
    syntaxes = _item(0x30, VERIFICATION) + _item(0x40, IMPLICIT_VR_LITTLE_ENDIAN)
    user = _item(0x51, struct.pack(">I", 16384)) + _item(0x52, IMPLEMENTATION)
    return (
        struct.pack(">HH", 1, 0)
        + titles
        + bytes(32)
        + _item(0x10, APPLICATION_CONTEXT)
        + _item(0x20, struct.pack(">B3x", 1) + syntaxes)
        + _item(0x50, user)
    )


def _fragment(command: bytes) -> bytes:
    return struct.pack(">IBB", len(command) + 2, 1, COMMAND_LAST_FRAGMENT) + command


def _echo_request() -> bytes:
    elements = (
        _element(0x0002, VERIFICATION + b"\0")
        + _element(0x0100, struct.pack("<H", C_ECHO_RQ))
        + _element(0x0110, struct.pack("<H", 1))
        + _element(0x0800, struct.pack("<H", NO_DATA_SET))
    )
    return _element(0x0000, struct.pack("<I", len(elements))) + elements


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def _status(body: bytes) -> int | None:
    """Return the Status (0000,0900) of the command set in a P-DATA body; None if it has none."""
    position = 6
    while position + 8 <= len(body):
        _, number, length = struct.unpack_from("<HHI", body, position)
        if number == 0x0900:  # noqa: PLR2004  Status: PS3.7 §E.1, Table E.1-1
            return int(struct.unpack_from("<H", body, position + 8)[0])
        position += 8 + length
    return None


def _read(connection: socket.socket) -> tuple[int, bytes]:
    kind, length = struct.unpack(">BxI", _exactly(connection, 6))
    return kind, _exactly(connection, min(length, 1 << 16))


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        more = connection.recv(count - len(received))
        if not more:
            raise NotHealthyError("the connection was closed without an answer")
        received += more
    return received
