"""Who may call: entries of `edge.allowed_calling_aets`, as `AE`, `AE@address`, `AE@network` or `AE@host`.

An AE title is whatever the caller says it is; the address behind the `@` is what the network knows of it
(G7). The last `@` divides, so that a title which holds one itself is written with an address, too
(`A@B@0.0.0.0/0`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.domain.identifiers import is_ae_title

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAX_HOST = 253  # RFC 1035 §2.3.4
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_NUMERIC = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: a title, and at most one of the network and the host that it must come from."""

    ae_title: str
    network: Network | None = None
    host: str | None = None

    @property
    def origin(self) -> str | None:
        """What stands behind the `@`; None where the title may come from anywhere."""
        return self.host if self.network is None else str(self.network)


def parse(text: str) -> Entry:
    """The entry that `text` means.

    Raises:
        ValueError: with a sentence that says what is wrong.
    """
    title, divider, origin = text.rpartition("@")
    if not divider:
        title = text
    if not is_ae_title(title):
        raise ValueError("an AE title has 1 to 16 printable characters, no backslash, no outer spaces")
    if not divider:
        return Entry(title)
    if "/" in origin or ":" in origin or _NUMERIC.fullmatch(origin):
        try:
            return Entry(title, network=ip_network(origin))
        except ValueError as error:
            raise ValueError(f"behind the @: {error}") from None
    if len(origin) > _MAX_HOST or not _HOST.fullmatch(origin):
        raise ValueError("behind the @ an address (10.1.2.3), a network (10.0.0.0/8) or a host is expected")
    return Entry(title, host=origin)


def contradiction(entries: Iterable[Entry]) -> str | None:
    """What two of the entries say against each other: a sentence, or None."""
    seen: set[Entry] = set()
    for entry in entries:
        if entry in seen:
            return "stands twice"
        seen.add(entry)
    for entry in seen:
        if entry.origin is not None and Entry(entry.ae_title) in seen:
            return f"{entry.ae_title} alone lets it in from everywhere, so {entry.origin} says nothing"
    return None


def address_of(text: str) -> Address:
    """The address of a connection: IPv4 where it came as such through a socket of IPv6; without a scope."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
