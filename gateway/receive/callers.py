"""Tells who may call from where: the entries of `edge.allowed_calling_aets` against title and address.

A host behind an `@` is looked up when its title calls, and the answer believed for TRUST_SECONDS, so that
a machine that moves needs no restart of the SCP. While no answer comes the last one holds; a name that
never had one lets nobody in. Strangers cause no look-ups: the title is compared first.
"""

import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic

from gateway.domain.allowlist import Address, Entry, address_of

TRUST_SECONDS = 60.0
"""How long an answer is believed."""

RETRY_SECONDS = 5.0
"""How long a failure keeps further look-ups away: a caller may knock each second."""

Lookup = Callable[[str], frozenset[Address]]


def lookup(host: str) -> frozenset[Address]:
    """Every address of a host; OSError where there is none, or nobody answers."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return frozenset(address_of(str(address[0])) for *_, address in found)


@dataclass(slots=True)
class _Host:
    lock: threading.Lock = field(default_factory=threading.Lock)
    addresses: frozenset[Address] | None = None
    error: str | None = None
    believed_until: float = 0.0


class Callers:
    """The allowlist of one receiver. Safe across threads."""

    def __init__(self, entries: Iterable[Entry], *, look_up: Lookup = lookup) -> None:
        self._by_title: dict[str, list[Entry]] = {}
        for entry in entries:
            self._by_title.setdefault(entry.ae_title, []).append(entry)
        self._hosts = {e.host: _Host() for found in self._by_title.values() for e in found if e.host}
        self._look_up = look_up

    def knows(self, ae_title: str) -> bool:
        """Tell whether that title may call at all."""
        return ae_title in self._by_title

    def refusal(self, ae_title: str, remote_address: str) -> str | None:
        """Why a title that is known may not call from there; None where it may."""
        address = address_of(remote_address)
        entries = self._by_title[ae_title]
        if any(entry.origin is None or (entry.network and address in entry.network) for entry in entries):
            return None
        unknown = ""
        for host in (entry.host for entry in entries if entry.host):
            known = self._known(host)
            if known.addresses is not None and address in known.addresses:
                return None
            if known.addresses is None:
                unknown += f"; {host} has no address: {known.error}"
        origins = ", ".join(str(entry.origin) for entry in entries)
        return f"edge.allowed_calling_aets lets it in from {origins} only{unknown}"

    def _known(self, host: str) -> _Host:
        known = self._hosts[host]
        if known.believed_until > monotonic():
            return known
        # One thread asks, which may take long; the others go by what was known, where something was.
        if known.lock.acquire(blocking=known.addresses is None):
            try:
                if known.believed_until <= monotonic():
                    self._ask(host, known)
            finally:
                known.lock.release()
        return known

    def _ask(self, host: str, known: _Host) -> None:
        try:
            known.addresses, known.error = self._look_up(host), None
            trust_seconds = TRUST_SECONDS
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that no name server could hold
            known.error = getattr(error, "strerror", None) or "it is no name"
            trust_seconds = RETRY_SECONDS
        known.believed_until = monotonic() + trust_seconds
