"""Check the host of a peer as it is written in the configuration, before anything looks it up.

Python's resolver raises UnicodeError or ValueError for a text that cannot be a host name, and OSError for a
name without an address. A text of the first kind is refused when the configuration is read.
"""

from ipaddress import ip_address

_MAX_LENGTH = 253  # RFC 1035 §2.3.4
_NEVER = frozenset("/\\[]@,;\"'")
EXPECTED = "a host name or an address is expected, such as pacs.hospital or 10.1.2.3; a port has its own key"


def check_host(text: str) -> str:
    """Return `text`, a host name, an IPv4 address, or an IPv6 address.

    Raises:
        ValueError: it is neither; the message is for the operator.
    """
    if ":" in text:
        try:
            ip_address(text)
        except ValueError:
            raise ValueError(EXPECTED) from None
        return text
    if not text or not text.isprintable() or " " in text or _NEVER.intersection(text):
        raise ValueError(EXPECTED)
    try:
        encoded = text.encode("idna")
    except UnicodeError:
        raise ValueError(f"{EXPECTED}; a part between two dots is empty or too long") from None
    if len(encoded) > _MAX_LENGTH:
        raise ValueError(f"a host name has at most {_MAX_LENGTH} characters")
    return text
