"""Read when the certificates of a PEM file expire.

The DER encoding is parsed here, because Python's ssl module shows only the certificates of peers. The path to
the two times (RFC 5280 §4.1): Certificate → tbsCertificate → [0] version (optional), serialNumber, signature,
issuer, validity → notBefore, notAfter.
"""

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.config import Configuration
from gateway.times import moment

NOTICE = timedelta(days=14)
"""How long before the end of a certificate the warnings begin."""

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME, _LONG_FORM = 0xA0, 0x17, 0x80


@dataclass(frozen=True, slots=True)
class Validity:
    """The time from which and until which a certificate is valid."""

    begins: datetime
    ends: datetime


def warnings(configuration: Configuration, now: datetime) -> Iterator[str]:
    """Yield a warning for each certificate that has expired, expires soon, or is not valid yet."""
    if configuration.edge.tls is not None:
        tls = configuration.edge.tls
        effect = "senders cannot connect"
        yield from _of_file("edge.tls.certificate", tls.certificate, now, effect)
        yield from _of_authorities("edge.tls.ca", tls.ca, now, effect)
    if configuration.console.tls is not None:
        path = configuration.console.tls.certificate
        yield from _of_file("console.tls.certificate", path, now, "browsers refuse the console")
    for destination in configuration.destinations:
        if destination.tls is None:
            continue
        name = f"of destination {destination.ae_title}"
        effect = f"{destination.ae_title} cannot be reached"
        yield from _of_file(f"tls.certificate {name}", destination.tls.certificate, now, effect)
        yield from _of_authorities(f"tls.ca {name}", destination.tls.ca, now, effect)


def validities(path: Path) -> list[Validity]:
    """Return the validity of each certificate in a PEM file, in order; none where it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError:
        return []  # gateway/diagnosis/startable.py reports it
    found = []
    for pem in _PEM.findall(content):
        try:
            found.append(_validity(ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))))
        except (ValueError, IndexError):
            continue  # OpenSSL reports it, see gateway/diagnosis/startable.py
    return found


def _of_file(key: str, path: Path | None, now: datetime, effect: str) -> Iterator[str]:
    """Check each certificate: one that has expired breaks the chain."""
    for validity in validities(path) if path is not None else ():
        if validity.begins > now:
            yield f"{key} {path} is not valid before {moment(validity.begins)}: {effect}"
        elif validity.ends <= now:
            yield f"{key} {path} ended at {moment(validity.ends)}: {effect}; renew it"
        elif validity.ends - now <= NOTICE:
            days = (validity.ends - now).days
            when = f"in {days} days, at {moment(validity.ends)}"
            yield f"{key} {path} ends {when}: {effect} then; renew it"


def _of_authorities(key: str, path: Path | None, now: datetime, effect: str) -> Iterator[str]:
    """Warn if every authority of the bundle ends within NOTICE; one that is valid for longer is enough."""
    found = validities(path) if path is not None else []
    if found and all(validity.ends - now <= NOTICE for validity in found):
        ends = max(validity.ends for validity in found)
        verb = "ended" if ends <= now else "ends"
        yield f"{key} {path}: its last certificate {verb} at {moment(ends)}: {effect}; renew it"


def _validity(der: bytes) -> Validity:
    certificate = _first(der)[1]
    elements = list(_elements(_first(certificate)[1]))
    at = 4 if elements[0][0] == _VERSION else 3
    begins, ends = (_time(tag, text.decode("ascii")) for tag, text in _elements(elements[at][1]))
    return Validity(begins, ends)


def _first(data: bytes) -> tuple[int, bytes]:
    for element in _elements(data):
        return element
    raise ValueError("an element is missing")


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each DER element (X.690 §8.1)."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & _LONG_FORM:
            size = length & ~_LONG_FORM
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        yield tag, data[at : at + length]
        at += length


def _time(tag: int, text: str) -> datetime:
    """Parse a UTCTime or GeneralizedTime; two-digit years from 50 on are 19YY (RFC 5280 §4.1.2.5.1)."""
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
