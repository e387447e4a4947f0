"""Check a caller's AE title and address against `edge.allowed_calling_aets`.

A host name behind an `@` is looked up when its AE title calls. The answer is used for CACHE_SECONDS, so a
machine may change its address without a restart of the SCP. While a lookup fails, the last answer stays
valid; a name that was never resolved admits nobody. The title is compared first, so an unlisted caller causes
no lookup.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic

from gateway.domain.allowlist import Address, Entry, address_of
from gateway.register.host_lookup import CACHE_SECONDS, Lookup, lookup

RETRY_SECONDS = 5.0
"""The pause after a failed lookup, since a caller may try every second."""


@dataclass(slots=True)
class _Host:
    lock: threading.Lock = field(default_factory=threading.Lock)
    addresses: frozenset[Address] | None = None
    error: str | None = None
    valid_until: float = 0.0


class AllowedCallers:
    """The allowlist of one receiver. Safe across threads."""

    def __init__(self, entries: Iterable[Entry], *, look_up: Lookup = lookup) -> None:
        self._by_title: dict[str, list[Entry]] = {}
        for entry in entries:
            self._by_title.setdefault(entry.ae_title, []).append(entry)
        self._hosts = {e.host: _Host() for found in self._by_title.values() for e in found if e.host}
        self._look_up = look_up

    def has_title(self, ae_title: str) -> bool:
        """Tell whether the list has an entry with that AE title, for any address."""
        return ae_title in self._by_title

    def why_address_refused(self, ae_title: str, remote_address: str) -> str | None:
        """Return why a listed AE title may not call from that address; None if it may."""
        address = address_of(remote_address)
        entries = self._by_title[ae_title]
        if any(entry.origin is None or (entry.network and address in entry.network) for entry in entries):
            return None
        unresolved = ""
        for name in (entry.host for entry in entries if entry.host):
            host = self._resolved(name)
            if host.addresses is not None and address in host.addresses:
                return None
            if host.addresses is None:
                unresolved += f"; {name} has no address: {host.error}"
        origins = ", ".join(str(entry.origin) for entry in entries)
        return f"edge.allowed_calling_aets lets it in from {origins} only{unresolved}"

    def _resolved(self, name: str) -> _Host:
        host = self._hosts[name]
        if host.valid_until > monotonic():
            return host
        # One thread makes the lookup, which may take long. The others use the last answer if there is one.
        if host.lock.acquire(blocking=host.addresses is None):
            try:
                if host.valid_until <= monotonic():
                    self._resolve(name, host)
            finally:
                host.lock.release()
        return host

    def _resolve(self, name: str, host: _Host) -> None:
        try:
            host.addresses, host.error = self._look_up(name), None
            valid_seconds = CACHE_SECONDS
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that DNS cannot encode
            host.error = getattr(error, "strerror", None) or "it is no name"
            valid_seconds = RETRY_SECONDS
        host.valid_until = monotonic() + valid_seconds
