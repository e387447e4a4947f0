"""The one-time link with which the first account is made, at the first start of a console without accounts.

It is printed on the terminal only. It works once, within 15 minutes, and from this machine only. The process
stores only its hash; a restart makes another link.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from time import monotonic

from gateway.domain.allowlist import address_of

LASTS_SECONDS = 15 * 60.0


class FirstLink:
    """A link that may be opened, until it is used or has expired."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._hash: bytes | None = None
        self._until = 0.0

    def make(self) -> str:
        """Return the token of a new link; an earlier link does not work any more."""
        token = secrets.token_urlsafe(32)
        self._hash = hashlib.sha256(token.encode()).digest()
        self._until = self._clock() + LASTS_SECONDS
        return token

    def counts(self, token: str, address: str) -> bool:
        """Tell whether that token, from that address, may make the first account now."""
        if self._hash is None or self._clock() > self._until or not is_loopback(address):
            return False
        return hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._hash)

    def use(self) -> None:
        """End the link."""
        self._hash = None


def is_loopback(address: str) -> bool:
    """Tell whether a request came from this machine."""
    try:
        return address_of(address).is_loopback
    except ValueError:
        return False
