"""Send instances over one or more associations to a peer, and yield one outcome for each instance.

An association proposes the contexts of its instances: each SOP Class in the transfer syntax of the instance.
Several associations take their work from one list. If an association is rejected, the others send the rest.
If one breaks, it is opened again.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from queue import SimpleQueue
from time import monotonic

from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.contexts import MAX_CONTEXTS, ProposedContext
from gateway.dicom.requestor import associate
from gateway.domain.dimse_status import Meaning, meaning_of
from gateway.errors import PeerAwayError, PeerError
from gateway.sender.outgoing import Outgoing

RECONNECTS = 3
RECONNECT_PAUSE_SECONDS = 0.5


class Priority(IntEnum):
    """The priority of a C-STORE request: PS3.7 §9.3.1.1, Table 9.3-1."""

    MEDIUM = 0
    HIGH = 1
    LOW = 2


@dataclass(frozen=True, slots=True)
class Sent:
    """The outcome of one instance: the peer's status, or None with the reason in `comment`."""

    instance: Outgoing
    status: int | None
    comment: str
    duration_seconds: float

    @property
    def accepted(self) -> bool:
        """True if the peer has the instance: for Success and warnings."""
        return self.status is not None and meaning_of(self.status) is Meaning.STORED


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How to send: AE title, number of associations at once, pause after each instance, priority."""

    calling_ae_title: str
    associations: int = 1
    delay_seconds: float = 0.0
    priority: Priority = Priority.MEDIUM


def send(instances: Sequence[Outgoing], peer: PeerAddress, options: SendOptions) -> Iterator[Sent]:
    """Send `instances` and yield the outcome of each as soon as it is known.

    Raises:
        PeerAwayError: no association could be opened, so nothing was sent. If the peer rejected it, this is
            an AssociationRejectedError with the reason.
    """
    first = True
    for contexts, batch in batches(instances):
        yield from _Batch(contexts, batch, peer, options).run(raise_if_away=first)
        first = False


def batches(
    instances: Iterable[Outgoing],
) -> Iterator[tuple[tuple[ProposedContext, ...], tuple[Outgoing, ...]]]:
    """Yield batches of instances with their contexts: at most 128, as one association can propose."""
    contexts: dict[ProposedContext, None] = {}
    batch: list[Outgoing] = []
    for instance in instances:
        if instance.context not in contexts and len(contexts) == MAX_CONTEXTS:
            yield tuple(contexts), tuple(batch)
            contexts, batch = {}, []
        contexts[instance.context] = None
        batch.append(instance)
    if batch:
        yield tuple(contexts), tuple(batch)


class _Batch:
    """Instances that one set of contexts can carry; several threads, each with an association, send them."""

    def __init__(
        self,
        contexts: Sequence[ProposedContext],
        instances: Sequence[Outgoing],
        peer: PeerAddress,
        options: SendOptions,
    ) -> None:
        self._contexts = contexts
        self._work = deque(instances)
        self._peer = peer
        self._options = options
        self._stopping = threading.Event()
        self._outcomes: SimpleQueue[Sent | BaseException | None] = SimpleQueue()

    def run(self, *, raise_if_away: bool) -> Iterator[Sent]:
        total = len(self._work)
        threads = [
            # Daemon threads: an interrupted sender must not wait for a peer's answer.
            threading.Thread(target=self._send_all, name=f"send-{number}", daemon=True)
            for number in range(min(max(1, self._options.associations), total))
        ]
        for thread in threads:
            thread.start()
        running, yielded = len(threads), 0
        away: PeerAwayError | None = None
        try:
            while running:
                outcome = self._outcomes.get()
                if isinstance(outcome, Sent):
                    yielded += 1
                    yield outcome
                    continue
                running -= 1
                if isinstance(outcome, PeerAwayError):
                    away = away or outcome
                elif outcome is not None:
                    raise outcome
        finally:
            self._stopping.set()
        if away is not None and yielded == 0 and raise_if_away:
            raise away
        for instance in self._work:
            yield Sent(instance, None, f"not sent: {away}", 0.0)

    def _send_all(self) -> None:
        """Send until no instance is left; put None, or the error, after the last outcome of this thread."""
        association: Association | None = None
        began = False
        try:
            while not self._stopping.is_set() and self._work:
                if association is None:
                    association = self._associate(again=began)
                    began = True
                try:
                    instance = self._work.popleft()
                except IndexError:  # another thread took it
                    break
                association = self._send_one(association, instance)
                self._stopping.wait(self._options.delay_seconds)
            if association is not None:
                association.release()
        except BaseException as error:  # noqa: BLE001  the boundary of this thread: `run` raises the error
            self._outcomes.put(error)
        else:
            self._outcomes.put(None)

    def _associate(self, *, again: bool) -> Association:
        """Open an association; after a break (`again`), try several times."""
        tries = RECONNECTS if again else 1
        for number in range(1, tries + 1):
            try:
                return associate(
                    self._peer, calling_ae_title=self._options.calling_ae_title, contexts=self._contexts
                )
            except PeerAwayError:
                if number == tries or self._stopping.wait(RECONNECT_PAUSE_SECONDS * number):
                    raise
        raise AssertionError

    def _send_one(self, association: Association, instance: Outgoing) -> Association | None:
        """Send one instance; return the association, or None if it must not be used again."""
        begun = monotonic()
        status: int | None = None
        try:
            status, comment = association.store(
                instance.context,
                instance.sop_instance_uid,
                instance.data_set(),
                priority=self._options.priority,
            )
        except PeerError as error:
            comment = str(error)
        except OSError as error:
            comment = f"{instance.path} cannot be read: {error.strerror or error}"
        self._outcomes.put(Sent(instance, status, comment, monotonic() - begun))
        return association if association.usable else None
