"""Tell who called from AE title and address: a worker, the PACS, perhaps the PACS, or a sender.

The loop guard needs it: what comes from a worker is a result, under whatever title, and what comes from the
PACS is not sent back to it for ever (`gateway.domain.routing.Origin`).

An address proves something only where nobody else is expected at it. That of this machine (loopback, or any
of its interfaces) proves nothing: sender, PACS and workers of a lab share it. Nor does one that a worker
shares with the PACS.

Hosts are looked up on a thread of their own, at the start and then once a minute while somebody calls. A
reception never waits for a name server: until the first answer a host has no address, and while none comes
the last one counts.
"""

import socket
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from gateway.config import Forwarder
from gateway.domain.allowlist import Address, address_of
from gateway.domain.routing import Origin
from gateway.receive.callers import TRUST_SECONDS, Lookup, lookup


@dataclass(frozen=True, slots=True)
class Caller:
    """Who called; `workers` are the AE titles of the workers that it may be.

    `by_address` says that only the address told it is a worker.
    """

    origin: Origin
    workers: tuple[str, ...] = ()
    by_address: bool = False


class Origins:
    """The peers of one receiver, by AE title and address. Safe across threads."""

    def __init__(self, forwarder: Forwarder, *, look_up: Lookup = lookup) -> None:
        self._pacs = forwarder.orthanc
        self._by_title: dict[str, list[str]] = {}
        for worker in forwarder.workers:
            for title in {worker.ae_title, *worker.calling_titles}:
                self._by_title.setdefault(title, []).append(worker.ae_title)
        self._hosts = {worker.ae_title: worker.host for worker in forwarder.workers}
        self._addresses = _Addresses({self._pacs.host, *self._hosts.values()}, look_up)

    def of(self, calling_ae_title: str, remote_address: str) -> Caller:
        """Tell who `calling_ae_title` at `remote_address` is; never waits."""
        named = self._by_title.get(calling_ae_title)
        if named is not None:
            return Caller(Origin.WORKER, tuple(named))
        address = address_of(remote_address)
        known = self._addresses.known()
        at_pacs = address in known.get(self._pacs.host, ())
        workers = tuple(title for title, host in self._hosts.items() if address in known.get(host, ()))
        if calling_ae_title == self._pacs.ae_title:
            return Caller(Origin.PACS if at_pacs and not workers else Origin.PERHAPS_PACS)
        if at_pacs:
            return Caller(Origin.PERHAPS_PACS)
        if workers:
            return Caller(Origin.WORKER, workers, by_address=True)
        return Caller(Origin.SENDER)


class _Addresses:
    """The addresses of some hosts, without those of this machine."""

    def __init__(self, hosts: Iterable[str], look_up: Lookup) -> None:
        self._look_up = look_up
        self._names: set[str] = set()
        self._known: dict[str, frozenset[Address]] = {}
        for host in hosts:
            try:
                self._known[host] = _of_others({address_of(host)})
            except ValueError:
                self._names.add(host)
        self._lock = threading.Lock()
        self._believed_until = 0.0
        self.known()

    def known(self) -> Mapping[str, frozenset[Address]]:
        """What is known now; asks for more on another thread when it is old."""
        if self._names and self._believed_until <= monotonic():
            with self._lock:
                is_ours = self._believed_until <= monotonic()
                if is_ours:
                    self._believed_until = monotonic() + TRUST_SECONDS
            if is_ours:
                # No thread to be had: what is known counts for another minute.
                with suppress(RuntimeError):
                    threading.Thread(target=self._refresh, name="hosts", daemon=True).start()
        return self._known

    def _refresh(self) -> None:
        for host in self._names:
            # UnicodeError: a label that no name server could hold
            with suppress(OSError, UnicodeError):
                self._known = {**self._known, host: _of_others(self._look_up(host))}


def _of_others(addresses: Iterable[Address]) -> frozenset[Address]:
    return frozenset(address for address in addresses if not _is_ours(address))


def _is_ours(address: Address) -> bool:
    """Tell whether it is an address of this machine: only such a one can be bound."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004  IP version
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
