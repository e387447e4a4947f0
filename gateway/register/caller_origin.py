"""Classify a caller by AE title and address: a worker, an archive, perhaps an archive, or a sender.

This prevents loops. Whatever a worker sends is a result, under any AE title; what an archive sends is not
sent back to it (`gateway.domain.routing.Origin`). The PACS is an archive like the others.

An address identifies a peer only if no other peer uses it. An address that a worker shares with an archive
does not identify the worker. Addresses of this machine identify nobody: in a lab, all peers use them.

Hosts are looked up on a separate thread, at the start and then at most once a minute while peers call, so a
reception never waits for a name server. Until its first lookup succeeds, a host has no address. While later
lookups fail, it keeps its last addresses.
"""

import socket
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias

from gateway.config.forwarder import Forwarder
from gateway.domain.allowlist import Address, address_of
from gateway.domain.routing import Origin
from gateway.register.host_lookup import CACHE_SECONDS, Lookup, lookup

MAX_REMEMBERED = 1000
"""Limits the memory for callers; one that is forgotten is identified again."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What a caller is; `workers` are the AE titles of the workers that it may be.

    `by_address`: its address identifies it as a worker, its AE title does not. `archive` is the AE title of
    the archive that it is for certain.
    """

    origin: Origin
    workers: tuple[str, ...] = ()
    by_address: bool = False
    archive: str | None = None


_Known: TypeAlias = Mapping[str, frozenset[Address]]
_Remembered: TypeAlias = tuple[_Known, dict[tuple[str, str], Caller]]
"""The addresses of the hosts, and the callers that they identified, by AE title and address."""


class CallerOrigins:
    """The known peers of one receiver, by AE title and address. Safe across threads."""

    def __init__(self, forwarder: Forwarder, *, look_up: Lookup = lookup) -> None:
        self._archives = {archive.ae_title: archive.host for archive in forwarder.all_archives}
        self._by_title: dict[str, list[str]] = {}
        for worker in forwarder.all_workers:
            for title in {worker.ae_title, *worker.calling_titles}:
                self._by_title.setdefault(title, []).append(worker.ae_title)
        self._hosts = {worker.ae_title: worker.host for worker in forwarder.all_workers}
        self._addresses = _HostAddresses({*self._archives.values(), *self._hosts.values()}, look_up)
        self._remembered: _Remembered = (self._addresses.current(), {})

    def identify(self, calling_ae_title: str, remote_address: str) -> Caller:
        """Return what the caller is; never waits for a lookup."""
        known = self._addresses.current()
        of_addresses, callers = self._remembered
        if of_addresses is not known or len(callers) > MAX_REMEMBERED:
            callers = {}
            self._remembered = known, callers
        caller = callers.get((calling_ae_title, remote_address))
        if caller is None:
            caller = self._identify(calling_ae_title, remote_address, known)
            callers[calling_ae_title, remote_address] = caller
        return caller

    def _identify(self, calling_ae_title: str, remote_address: str, known: _Known) -> Caller:
        named = self._by_title.get(calling_ae_title)
        if named is not None:
            return Caller(Origin.WORKER, tuple(named))
        address = address_of(remote_address)
        archives = [title for title, host in self._archives.items() if address in known.get(host, ())]
        workers = tuple(title for title, host in self._hosts.items() if address in known.get(host, ()))
        if calling_ae_title in archives and not workers:
            return Caller(Origin.ARCHIVE, archive=calling_ae_title)
        if archives or calling_ae_title in self._archives:
            return Caller(Origin.PERHAPS_ARCHIVE)
        if workers:
            return Caller(Origin.WORKER, workers, by_address=True)
        return Caller(Origin.SENDER)


class _HostAddresses:
    """The addresses of some hosts, without those of this machine."""

    def __init__(self, hosts: Iterable[str], look_up: Lookup) -> None:
        self._look_up = look_up
        self._names: set[str] = set()
        self._known: dict[str, frozenset[Address]] = {}
        for host in hosts:
            try:
                self._known[host] = _remote({address_of(host)})
            except ValueError:
                self._names.add(host)
        self._lock = threading.Lock()
        self._valid_until = 0.0
        self.current()

    def current(self) -> _Known:
        """Return the last addresses; start a lookup on another thread if they are old.

        It is the same object until a lookup has found others.
        """
        if self._names and self._valid_until <= monotonic():
            with self._lock:
                refreshes = self._valid_until <= monotonic()
                if refreshes:
                    self._valid_until = monotonic() + CACHE_SECONDS
            if refreshes:
                # RuntimeError: no thread can be started. The last addresses are used for another minute.
                with suppress(RuntimeError):
                    threading.Thread(target=self._refresh, name="hosts", daemon=True).start()
        return self._known

    def _refresh(self) -> None:
        for host in self._names:
            # UnicodeError: a label that DNS cannot encode
            with suppress(OSError, UnicodeError):
                found = _remote(self._look_up(host))
                if found != self._known.get(host):
                    self._known = {**self._known, host: found}


def _remote(addresses: Iterable[Address]) -> frozenset[Address]:
    return frozenset(address for address in addresses if not _is_local(address))


def _is_local(address: Address) -> bool:
    """Tell whether it is an address of this machine: only such an address can be bound."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004  IP version
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
