"""Look up the addresses of a host name."""

import socket
from collections.abc import Callable

from gateway.domain.allowlist import Address, address_of

CACHE_SECONDS = 60.0
"""How long the addresses of a host are used before they are looked up again."""

Lookup = Callable[[str], frozenset[Address]]


def lookup(host: str) -> frozenset[Address]:
    """Return every address of `host`.

    Raises:
        OSError: `host` has no address, or no name server answers.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return frozenset(address_of(str(address[0])) for *_, address in found)
