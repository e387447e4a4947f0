"""Keep associations to the peers open, and lend them to the threads of this process.

An association costs several round trips, so it is used for many instances. It proposes the contexts that the
waiting instances need (at most 128 contexts, with one transfer syntax each). If an instance needs another
context, an idle association is released and a new one opened.

    lend      to one thread at a time; at most `forwarder.max_associations_per_peer` are open per peer
    return    an association is kept only if it is usable
    release   after `association_idle_seconds` without work

Some peers serve one association at a time, and leave the request for a second one unanswered until the first
has ended. Two rules follow:

    While a request is unanswered, each association that a thread returns is released.
    If the peer served another association of ours meanwhile, a missing answer does not mean it is away.

If the process dies, TCP resets its associations, and the peers abort them. Nothing has to be repaired.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from gateway.config import Configuration
from gateway.config.destination import Destination
from gateway.config.forwarder import Forwarder
from gateway.dicom.contexts import ProposedContext
from gateway.errors import AssociationRejectedError, AssociationsBusyError, PeerAwayError
from gateway.forward.opening import Contexts, open_association
from gateway.forward.peer import address_of
from gateway.forward.peer_associations import LentAssociation, PeerAssociations

REAP_SECONDS = 1.0
"""Between checks for associations to release."""


def check_certificates(forwarder: Forwarder) -> None:
    """Refuse a wrong certificate before a process uses this configuration.

    Raises:
        ConfigurationError: a certificate, key or CA file of a destination cannot be used.
    """
    for destination in _by_title(forwarder).values():
        address_of(destination, forwarder)


def _by_title(forwarder: Forwarder) -> dict[str, Destination]:
    return {one.ae_title: one for one in forwarder.destinations}


class Associations:
    """The associations of one process; safe across its threads."""

    def __init__(self, calling_ae_title: str, forwarder: Forwarder) -> None:
        self._calling_ae_title = calling_ae_title
        self._forwarder = forwarder
        check_certificates(forwarder)
        self._destinations = _by_title(forwarder)
        self._changed = threading.Condition()
        self._peers: dict[str, PeerAssociations] = {}
        self._closed = False
        self._reaper: threading.Thread | None = None

    @contextmanager
    def lend(
        self,
        destination: Destination,
        context: ProposedContext,
        waiting: Contexts,
        *,
        likely: Contexts = tuple,
        fresh: bool = False,
    ) -> Iterator[LentAssociation]:
        """Lend an association that proposed `context`, for the length of the `with`.

        If one must be opened, it also proposes the contexts that `waiting` returns. If the peer refuses it,
        `likely` returns contexts that the peer accepted before. `fresh` demands one that was never used.

        Raises:
            StorageNotAcceptedError, ContextRefusedError: as `open_association`.
            PeerAwayError: no association can be opened.
            AssociationsBusyError: all associations that may be open stayed in use.
            DatabaseError: a query that `waiting` or `likely` makes failed.
        """
        lent = self._take(destination, context, waiting, likely, fresh=fresh)
        try:
            yield lent
        finally:
            self._give_back(destination.ae_title, lent)

    def take(self, configuration: Configuration) -> None:
        """Use other destinations and limits from now on.

        Release the idle associations to a peer that changed; each lent one is released when it comes back.
        """
        with self._changed:
            self._forwarder = configuration.forwarder
            self._destinations = _by_title(configuration.forwarder)
            others = [
                lent
                for title, peer in self._peers.items()
                for lent in peer.take_others(self._destinations.get(title))
            ]
            self._changed.notify_all()  # more associations may be allowed now
        for lent in others:
            lent.association.release()

    def note_progress(self, ae_title: str) -> None:
        """Note that the peer accepts bytes on one of our associations."""
        self._peers[ae_title].last_progress = monotonic()

    def count(self) -> int:
        """Return how many associations are open, over all peers."""
        with self._changed:
            return sum(peer.open for peer in self._peers.values())

    def close(self) -> None:
        """Release the idle associations now, and each lent one when it comes back."""
        with self._changed:
            self._closed = True
            idle = [lent for peer in self._peers.values() for lent in peer.idle]
            for peer in self._peers.values():
                peer.open -= len(peer.idle)
                peer.idle.clear()
            self._changed.notify_all()
        for lent in idle:
            lent.association.release()

    def _take(
        self,
        destination: Destination,
        context: ProposedContext,
        waiting: Contexts,
        likely: Contexts,
        *,
        fresh: bool,
    ) -> LentAssociation:
        # The wait must leave enough of the claim's lease for one request and one send.
        longest = destination.timeout_s + self._forwarder.connect_timeout_seconds
        limit = monotonic() + (self._forwarder.lease_seconds - longest) / 2
        dropped: list[LentAssociation] = []
        try:
            with self._changed:
                peer = self._peers.setdefault(destination.ae_title, PeerAssociations())
                while True:
                    found = None if fresh else peer.take_idle(context, dropped)
                    if found is not None:
                        return found
                    if peer.idle:
                        # No idle association fits. Release one, because the peer may allow only one
                        # association.
                        dropped.append(peer.idle.pop(0))
                        peer.open -= 1
                    if peer.open < self._forwarder.max_associations_per_peer:
                        peer.open += 1
                        requested_at = monotonic()
                        peer.requested.append(requested_at)
                        self._start_reaper()
                        break
                    left = limit - monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        raise AssociationsBusyError(f"all associations to {destination.ae_title} stayed busy")
        finally:
            for lent in dropped:
                lent.association.release()
        # Propose again what the released ones proposed, so that instances which alternate between contexts
        # share one association.
        proposed = [one for lent in dropped for one in lent.association.proposed]
        return self._open(destination, context, lambda: [*waiting(), *proposed], likely, requested_at)

    def _open(
        self,
        destination: Destination,
        context: ProposedContext,
        others: Contexts,
        likely: Contexts,
        requested_at: float,
    ) -> LentAssociation:
        """Open an association that `_take` has counted already."""
        peer = self._peers[destination.ae_title]
        try:
            association = open_association(
                address_of(destination, self._forwarder),
                calling_ae_title=self._calling_ae_title,
                context=context,
                others=others(),
                likely=likely,
                has_others_open=lambda: peer.open > len(peer.requested),
            )
        except BaseException as error:
            with self._changed:
                peer.requested.remove(requested_at)
                peer.open -= 1
                in_use = peer.open - len(peer.requested)
                self._changed.notify()
            answers = isinstance(error, AssociationRejectedError) or peer.last_progress > requested_at
            if in_use and answers and isinstance(error, PeerAwayError):
                raise AssociationsBusyError(
                    f"{destination.ae_title} serves {in_use} of our associations and no further one: {error}"
                ) from error
            raise
        with self._changed:
            peer.requested.remove(requested_at)
        return LentAssociation(association, destination, fresh=True)

    def _give_back(self, ae_title: str, lent: LentAssociation) -> None:
        """Keep a usable association; release it while a request to the peer is unanswered."""
        keep = lent.association.usable
        with self._changed:
            peer = self._peers[ae_title]
            if keep:
                peer.last_progress = monotonic()
            keep = keep and not self._closed and not peer.leaves_a_request_unanswered()
            keep = keep and lent.destination == self._destinations.get(ae_title)
            if keep:
                lent.since = monotonic()
                peer.idle.append(lent)
                self._start_reaper()
            else:
                peer.open -= 1
            self._changed.notify()
        if not keep:
            lent.association.release()

    def _start_reaper(self) -> None:
        if self._reaper is None:
            self._reaper = threading.Thread(target=self._reap, name="associations", daemon=True)
            self._reaper.start()

    def _reap(self) -> None:
        """Release expired associations; end this thread when none is idle and no request is open."""
        while True:
            with self._changed:
                self._changed.wait(REAP_SECONDS)
                expired = []
                for peer in self._peers.values():
                    expired += peer.take_expired(monotonic() - self._forwarder.association_idle_seconds)
                done = not any(peer.idle or peer.requested for peer in self._peers.values())
                if done:
                    self._reaper = None
            for lent in expired:
                lent.association.release()
            if done:
                return
