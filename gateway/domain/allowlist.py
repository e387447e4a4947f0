"""Parse the entries of `edge.allowed_calling_aets`: `AE`, `AE@address`, `AE@network` or `AE@host`.

A caller can claim any AE title, but not any address, so an entry may name the address too (G7). The last `@`
separates title and address. A title that contains an `@` must therefore be written with an address:
`A@B@0.0.0.0/0`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.domain.identifiers import is_ae_title

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAX_HOST = 253  # RFC 1035 §2.3.4
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_NUMERIC = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: an AE title, and the network or the host that it must come from, if any."""

    ae_title: str
    network: Network | None = None
    host: str | None = None

    @property
    def origin(self) -> str | None:
        """The part after the `@`; None if the title may come from any address."""
        return self.host if self.network is None else str(self.network)

    def __str__(self) -> str:
        if self.network is not None and self.network.num_addresses == 1:
            return f"{self.ae_title}@{self.network.network_address}"
        return self.ae_title if self.origin is None else f"{self.ae_title}@{self.origin}"


def parse(text: str) -> Entry:
    """Return the entry that `text` describes.

    Raises:
        ValueError: `text` is invalid; the message is for the operator.
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


def find_problem(entries: Iterable[Entry]) -> str | None:
    """Return a message if two entries are equal or one makes another useless; else None."""
    seen: set[Entry] = set()
    for entry in entries:
        if entry in seen:
            return f"duplicate entry {entry}"
        seen.add(entry)
    for entry in seen:
        if entry.origin is not None and Entry(entry.ae_title) in seen:
            return f"{entry.ae_title} admits every address, so {entry} has no effect: remove one of them"
    return None


@lru_cache(maxsize=1024)
def address_of(text: str) -> Address:
    """Return the address of a connection, without a scope; an IPv4-mapped IPv6 address becomes IPv4."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
