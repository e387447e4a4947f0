"""Say codes in words: DIMSE statuses, UIDs, rejections of associations, TLS alerts.

Reasons are stored as a peer gave them. `in_words` adds the registered name behind each UID and each status.
"""

import re

from gateway.dicom.names import named
from gateway.domain.dimse_status import name_of

_STATUS = re.compile(r"\b0x([0-9A-F]{4})\b(?! \()")
_UID = re.compile(r"(?<![(\d.])1\.2\.840\.10008\.\d[\d.]*\d(?![\d.])")

_ALERTS = {
    "unknown ca": "the other side does not trust the authority of this certificate",
    "certificate required": "the other side asks for a certificate, and gets none",
    "bad certificate": "the other side refuses this certificate",
    "certificate expired": "the other side says that this certificate has expired",
    "certificate revoked": "the other side says that this certificate was revoked",
    "unsupported certificate": "the other side does not support this certificate",
    "protocol version": "both sides have no version of TLS in common",
    "no protocols available": "both sides have no version of TLS in common",
    "handshake failure": "both sides have no cipher suite in common, or a certificate is missing",
    "unrecognized name": "the other side does not know the host name that was asked for",
    "wrong version number": "the other side does not speak TLS",
    "http request": "the other side got HTTP where it expected TLS",
}
"""RFC 8446 §6.2; OpenSSL writes the names with spaces or underscores."""


_ABORT = re.compile(r"(aborted by the peer): source (\d+), reason (\d+)")
_ABORTS = {
    0: "not specified",
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter",
}
"""Reasons of the service provider: PS3.8 §9.3.8, Table 9-26."""


def in_words(text: str) -> str:
    """Return the text with the registered name behind each UID and each DIMSE status."""
    text = _ABORT.sub(lambda found: f"{found[1]} ({_abort(int(found[2]), int(found[3]))})", text)
    text = _STATUS.sub(lambda found: f"{found[0]} ({name_of(int(found[1], 16))})", text)
    return _UID.sub(lambda found: named(found[0]), text)


def _abort(source: int, reason: int) -> str:
    if source == 0:
        return "A-ABORT of its application"
    return f"A-ABORT of its protocol machine: {_ABORTS.get(reason, f'reason {reason}')}"


def of_tls(text: str) -> str:
    """Return what a TLS alert or an error of the handshake means; the text itself if it is not known."""
    plain = text.lower().replace("_", " ")
    return next((f"{words} ({text})" for alert, words in _ALERTS.items() if alert in plain), text)
