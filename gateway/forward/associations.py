"""The associations to the peers that a process keeps open while there is work.

An association proposes what the instances that wait need (one transfer syntax per context, at most 128);
one that lacks a context is closed and another opened. It is lent to one thread at a time, at most
`forwarder.max_associations_per_peer` of them per peer, given back only when it is usable, and released
after `association_idle_seconds` without work.

A peer may serve one association at a time, and leave a second without an answer until the first is over. So
what comes back while another is waited for is released, and where one of ours got on meanwhile such a silence
is no sign that the peer is away.

Nothing here outlives the process: a peer whose associations vanish with us sees them aborted by TCP.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from gateway.config import Destination, Forwarder
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.requestor import Association, PeerAddress
from gateway.dicom.tls import requestor_context
from gateway.errors import AssociationRejectedError, AssociationsBusyError, PeerAwayError
from gateway.forward.opening import Contexts, open_association

REAP_SECONDS = 1.0
PROMPT_SECONDS = 0.3
"""A peer that is free answers a request for an association sooner."""


def peer_of(destination: Destination, forwarder: Forwarder) -> PeerAddress:
    """The destination as the DICOM layer wants it.

    Raises:
        ConfigurationError: a file of its `tls` is of no use.
    """
    tls = destination.tls
    return PeerAddress(
        destination.host,
        destination.port,
        destination.ae_title,
        timeout_seconds=destination.timeout_s,
        connect_timeout_seconds=forwarder.connect_timeout_seconds,
        tls=None
        if tls is None
        else requestor_context(
            tls.certificate,
            tls.key,
            tls.ca,
            check_host=tls.verify == "host",
            where=f"tls of destination {destination.ae_title}",
        ),
    )


@dataclass(slots=True)
class LentAssociation:
    """An association that is the caller's; `fresh` says that nothing was sent on it before."""

    association: Association
    fresh: bool
    since: float = field(default_factory=monotonic)


@dataclass(slots=True)
class _PerPeer:
    idle: list[LentAssociation] = field(default_factory=list)
    open: int = 0
    asked: list[float] = field(default_factory=list)
    """When those began that are being opened; `open` counts them, too."""
    heard: float = 0.0
    """When the peer last took bytes of ours, or answered."""

    def is_waited_for(self) -> bool:
        """Tell whether the peer leaves one unanswered for as long as only those do that are busy."""
        return bool(self.asked) and monotonic() - self.asked[0] > PROMPT_SECONDS


class Associations:
    """Lends associations to the threads of a process."""

    def __init__(self, calling_ae_title: str, forwarder: Forwarder) -> None:
        self._calling_ae_title = calling_ae_title
        self._forwarder = forwarder
        for destination in (forwarder.orthanc, *forwarder.workers):
            peer_of(destination, forwarder)  # refuses to start where its certificates are of no use
        self._changed = threading.Condition()
        self._peers: dict[str, _PerPeer] = {}
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
        """An association that proposed `context`; `waiting` is asked for more contexts when one is opened.

        `likely` is asked for contexts that the peer accepted before, where it refuses the association.
        `fresh` wants one that was never used. Afterwards it is kept if it is usable.

        Raises:
            StorageNotAcceptedError, ContextRefusedError: as `open_association`.
            PeerAwayError: the peer cannot be associated with.
            AssociationsBusyError: all that may be open stayed in use.
        """
        lent = self._take(destination, context, waiting, likely, fresh=fresh)
        try:
            yield lent
        finally:
            self._give_back(destination.ae_title, lent)

    def note_progress(self, ae_title: str) -> None:
        """The peer takes what one of ours sends."""
        self._peers[ae_title].heard = monotonic()

    def close(self) -> None:
        """Every idle association is released; those in use are when they come back."""
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
        # What is left of the claim's lease must be enough for the association and the send.
        longest = destination.timeout_s + self._forwarder.connect_timeout_seconds
        limit = monotonic() + (self._forwarder.lease_seconds - longest) / 2
        dropped: list[LentAssociation] = []
        try:
            with self._changed:
                peer = self._peers.setdefault(destination.ae_title, _PerPeer())
                while True:
                    found = None if fresh else self._find(peer, context, dropped)
                    if found is not None:
                        return found
                    if peer.idle:
                        # One that does not know this context (or was used, where a fresh one is wanted)
                        # makes room: a peer may allow one association only.
                        dropped.append(peer.idle.pop(0))
                        peer.open -= 1
                    if peer.open < self._forwarder.max_associations_per_peer:
                        peer.open += 1
                        asked = monotonic()
                        peer.asked.append(asked)
                        self._start_reaper()
                        break
                    left = limit - monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        raise AssociationsBusyError(f"all associations to {destination.ae_title} stayed busy")
        finally:
            for lent in dropped:
                lent.association.release()
        # What the dropped ones proposed is proposed again: instances that alternate then share one.
        known = [c for lent in dropped for c in lent.association.proposed]
        return self._open(destination, context, lambda: [*waiting(), *known], likely, asked)

    @staticmethod
    def _find(
        peer: _PerPeer, context: ProposedContext, dropped: list[LentAssociation]
    ) -> LentAssociation | None:
        for lent in reversed(peer.idle):
            if context not in lent.association.proposed:
                continue
            peer.idle.remove(lent)
            if lent.association.is_alive():
                lent.fresh = False
                return lent
            peer.open -= 1
            dropped.append(lent)
        return None

    def _open(
        self,
        destination: Destination,
        context: ProposedContext,
        others: Contexts,
        likely: Contexts,
        asked: float,
    ) -> LentAssociation:
        peer = self._peers[destination.ae_title]
        try:
            association = open_association(
                peer_of(destination, self._forwarder),
                calling_ae_title=self._calling_ae_title,
                context=context,
                others=others(),
                likely=likely,
                has_others_open=lambda: peer.open > len(peer.asked),
            )
        except BaseException as error:
            with self._changed:
                peer.asked.remove(asked)
                peer.open -= 1
                in_use = peer.open - len(peer.asked)
                self._changed.notify()
            lives = isinstance(error, AssociationRejectedError) or peer.heard > asked
            if in_use and lives and isinstance(error, PeerAwayError):
                raise AssociationsBusyError(
                    f"{destination.ae_title} serves {in_use} of ours and no further one: {error}"
                ) from error
            raise
        with self._changed:
            peer.asked.remove(asked)
        return LentAssociation(association, fresh=True)

    def _give_back(self, ae_title: str, lent: LentAssociation) -> None:
        keep = lent.association.usable
        with self._changed:
            peer = self._peers[ae_title]
            if keep:
                peer.heard = monotonic()
            keep = keep and not self._closed and not peer.is_waited_for()
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
        """Releases what stays idle or is in the way; ends when nothing is: an idle process does nothing."""
        while True:
            with self._changed:
                self._changed.wait(REAP_SECONDS)
                old = []
                for peer in self._peers.values():
                    old += self._expired(peer)
                done = not any(peer.idle or peer.asked for peer in self._peers.values())
                if done:
                    self._reaper = None
            for lent in old:
                lent.association.release()
            if done:
                return

    def _expired(self, peer: _PerPeer) -> list[LentAssociation]:
        kept_since = monotonic() - self._forwarder.association_idle_seconds
        expired = [lent for lent in peer.idle if lent.since < kept_since or peer.is_waited_for()]
        peer.idle = [lent for lent in peer.idle if lent not in expired]
        peer.open -= len(expired)
        return expired
