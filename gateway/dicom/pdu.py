"""The PDUs of the DICOM Upper Layer: their types and limits, and the encoding of the short ones.

This module uses no socket. `negotiation` encodes A-ASSOCIATE-RQ and -AC; `p_data` cuts a message into P-DATA
PDUs.
"""

import struct

from gateway.errors import ProtocolError

# PS3.8 §9.3.1, PDU types
ASSOCIATE_RQ = 0x01
ASSOCIATE_AC = 0x02
ASSOCIATE_RJ = 0x03
P_DATA_TF = 0x04
RELEASE_RQ = 0x05
RELEASE_RP = 0x06
ABORT = 0x07

NAMES: dict[int, str] = {
    ASSOCIATE_RQ: "A-ASSOCIATE-RQ",
    ASSOCIATE_AC: "A-ASSOCIATE-AC",
    ASSOCIATE_RJ: "A-ASSOCIATE-RJ",
    P_DATA_TF: "P-DATA-TF",
    RELEASE_RQ: "A-RELEASE-RQ",
    RELEASE_RP: "A-RELEASE-RP",
    ABORT: "A-ABORT",
}

HEADER = struct.Struct(">BxI")
"""PDU type, a reserved byte, length of the body: PS3.8 §9.3.1."""

PDV_HEADER = struct.Struct(">IBB")
"""Item length (which counts the next two fields), presentation context id, message control header."""

DATA_PDU_HEADER = struct.Struct(">BxIIBB")
"""Both headers at once, for a P-DATA PDU with one PDV."""

PDV_OVERHEAD = 6
OUR_MAX_PDU_BYTES = 131_072
"""The largest P-DATA PDU we send, even if the peer accepts larger ones.

As requestor it is also the Maximum Length that we announce to receive (PS3.8 §D.1).
"""

IS_COMMAND = 0x01  # PS3.8 §E.2, message control header
IS_LAST = 0x02

_TLS_HANDSHAKE = 0x16  # RFC 8446 §5.1, ContentType

MAX_ASSOCIATE_BYTES = 1 << 20
"""128 contexts need less than 200 KiB, even if each has dozens of transfer syntaxes."""

SHORT_BYTES = 4
"""Length of the body of A-ASSOCIATE-RJ, A-RELEASE-RQ, -RP and A-ABORT: PS3.8 §9.3.4, §9.3.6 to §9.3.8."""

RELEASE_RQ_PDU = bytes((RELEASE_RQ, 0, 0, 0, 0, 4, 0, 0, 0, 0))
RELEASE_RP_PDU = bytes((RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0))

# PS3.8 §9.3.8, Table 9-26
SERVICE_USER = 0
SERVICE_PROVIDER = 2
UNRECOGNIZED_PDU = 1
UNEXPECTED_PDU = 2
UNEXPECTED_PDU_PARAMETER = 5
INVALID_PDU_PARAMETER_VALUE = 6


class PduError(ProtocolError):
    """The peer sent what PS3.8 or PS3.7 forbids; `reason` is the reason field of our A-ABORT."""

    def __init__(self, message: str, reason: int = INVALID_PDU_PARAMETER_VALUE) -> None:
        super().__init__(message)
        self.reason = reason


class NotDicomError(PduError):
    """The first bytes of the peer are no PDU of PS3.8."""


def abort_pdu(source: int, reason: int) -> bytes:
    """Return an A-ABORT: PS3.8 §9.3.8, Table 9-26."""
    return bytes((ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason))


def reject_pdu(result: int, source: int, reason: int) -> bytes:
    """Return an A-ASSOCIATE-RJ: PS3.8 §9.3.4, Table 9-21."""
    return bytes((ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, result, source, reason))


def name_of(pdu_type: int) -> str:
    """Return the name of a PDU type for messages."""
    return NAMES.get(pdu_type, f"PDU of unknown type 0x{pdu_type:02X}")


def check_short(pdu_type: int, length: int) -> None:
    """Raise `PduError` if a PDU whose body must have four bytes has another length."""
    if length != SHORT_BYTES:
        raise PduError(f"{name_of(pdu_type)} with a length of {length}")


def unexpected(pdu_type: int) -> PduError:
    """Return the error for a PDU that the state does not allow (PS3.8 §9.2, Table 9-10, action AA-8)."""
    known = pdu_type in NAMES
    return PduError(f"unexpected {name_of(pdu_type)}", UNEXPECTED_PDU if known else UNRECOGNIZED_PDU)


def unexpected_first(pdu_type: int) -> PduError:
    """Return the error for a first PDU that is no A-ASSOCIATE-RQ."""
    if pdu_type in NAMES:
        return unexpected(pdu_type)
    spoken = f"its first byte is 0x{pdu_type:02X}"
    if pdu_type == _TLS_HANDSHAKE:
        spoken = "it speaks TLS"
    elif chr(pdu_type).isascii() and chr(pdu_type).isupper():
        spoken = f"it speaks HTTP or another text, and begins with {chr(pdu_type)!r}"
    return NotDicomError(f"unexpected {name_of(pdu_type)}: {spoken}", UNRECOGNIZED_PDU)


def largest_fragment(peer_max_pdu_bytes: int) -> int:
    """Return how many bytes of a message one PDV may carry: an even number, at most OUR_MAX_PDU_BYTES.

    0 means that the peer sets no limit (PS3.8 §D.1). If the limit leaves no space for two bytes of data,
    return 2.
    """
    limit = peer_max_pdu_bytes or OUR_MAX_PDU_BYTES
    return max(2, (min(limit, OUR_MAX_PDU_BYTES) - PDV_OVERHEAD) & ~1)


def command_pdus(context_id: int, command_set: bytes, peer_max_pdu_bytes: int) -> bytes:
    """Return a command set as P-DATA PDUs: one PDU, unless the peer accepts only very small ones."""
    size = largest_fragment(peer_max_pdu_bytes)
    pieces = []
    for start in range(0, len(command_set), size):
        piece = command_set[start : start + size]
        control = IS_COMMAND | (IS_LAST if start + size >= len(command_set) else 0)
        pieces.append(data_pdu_header(context_id, control, len(piece)))
        pieces.append(piece)
    return b"".join(pieces)


def data_pdu_header(context_id: int, control: int, count: int) -> bytes:
    """Return the headers of a P-DATA PDU whose only PDV has `count` bytes: PS3.8 §9.3.5, Table 9-22."""
    return DATA_PDU_HEADER.pack(P_DATA_TF, count + PDV_OVERHEAD, count + 2, context_id, control)
