"""Instances over associations to one peer; an outcome for each, none left out.

An association proposes what its instances need, each SOP Class in the instance's own transfer syntax,
one per context. Several associations share one list of work: one that is refused or breaks
leaves the rest to the others and, broken in the middle, begins anew.
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
    """Of a C-STORE request: PS3.7 §9.3.1.1, Table 9.3-1."""

    MEDIUM = 0
    HIGH = 1
    LOW = 2


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one instance: the peer's status, or None and in `comment` why there is none."""

    instance: Outgoing
    status: int | None
    comment: str
    duration_seconds: float

    @property
    def accepted(self) -> bool:
        """The peer has it: Success or a warning."""
        return self.status is not None and meaning_of(self.status) is Meaning.STORED


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How to send: under which AE title, over how many associations at once, with which pause after each."""

    calling_ae_title: str
    associations: int = 1
    delay_seconds: float = 0.0
    priority: Priority = Priority.MEDIUM


def send(instances: Sequence[Outgoing], peer: PeerAddress, manner: SendOptions) -> Iterator[Sent]:
    """The outcome of each instance, as soon as it is known; as many as there are instances.

    Raises:
        PeerAwayError: no association was possible at all, so nothing was sent; see its subclass
            AssociationRejectedError for the peer's reason.
    """
    first = True
    for contexts, batch in batches(instances):
        yield from _Batch(contexts, batch, peer, manner).run(raise_if_away=first)
        first = False


def batches(
    instances: Iterable[Outgoing],
) -> Iterator[tuple[tuple[ProposedContext, ...], tuple[Outgoing, ...]]]:
    """The instances cut, in their order, where one association could not propose any more contexts."""
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
    """What one set of contexts serves: work that the lines (one association each) take from."""

    def __init__(
        self,
        contexts: Sequence[ProposedContext],
        instances: Sequence[Outgoing],
        peer: PeerAddress,
        manner: SendOptions,
    ) -> None:
        self._contexts = contexts
        self._work = deque(instances)
        self._peer = peer
        self._manner = manner
        self._stopping = threading.Event()
        self._outcomes: SimpleQueue[Sent | BaseException | None] = SimpleQueue()

    def run(self, *, raise_if_away: bool) -> Iterator[Sent]:
        total = len(self._work)
        lines = [
            # Daemons: who interrupts the sender does not wait for a peer's answer.
            threading.Thread(target=self._line, name=f"send-{number}", daemon=True)
            for number in range(min(max(1, self._manner.associations), total))
        ]
        for line in lines:
            line.start()
        running, told = len(lines), 0
        away: PeerAwayError | None = None
        try:
            while running:
                outcome = self._outcomes.get()
                if isinstance(outcome, Sent):
                    told += 1
                    yield outcome
                    continue
                running -= 1
                if isinstance(outcome, PeerAwayError):
                    away = away or outcome
                elif outcome is not None:
                    raise outcome
        finally:
            self._stopping.set()
        if away is not None and told == 0 and raise_if_away:
            raise away
        for instance in self._work:
            yield Sent(instance, None, f"not sent: {away}", 0.0)

    def _line(self) -> None:
        """One association after the other until the work is done; its last word is None or its error."""
        association: Association | None = None
        began = False
        try:
            while not self._stopping.is_set() and self._work:
                if association is None:
                    association = self._associate(again=began)
                    began = True
                try:
                    instance = self._work.popleft()
                except IndexError:  # another line was quicker
                    break
                association = self._send_one(association, instance)
                self._stopping.wait(self._manner.delay_seconds)
            if association is not None:
                association.release()
        except BaseException as error:  # noqa: BLE001  the boundary of this thread: told to the one who waits
            self._outcomes.put(error)
        else:
            self._outcomes.put(None)

    def _associate(self, *, again: bool) -> Association:
        """An association; a peer that was there a moment ago gets a few tries to come back."""
        tries = RECONNECTS if again else 1
        for number in range(1, tries + 1):
            try:
                return associate(
                    self._peer, calling_ae_title=self._manner.calling_ae_title, contexts=self._contexts
                )
            except PeerAwayError:
                if number == tries or self._stopping.wait(RECONNECT_PAUSE_SECONDS * number):
                    raise
        raise AssertionError

    def _send_one(self, association: Association, instance: Outgoing) -> Association | None:
        """The association for the next instance, or None when this one must not be used again."""
        begun = monotonic()
        status: int | None = None
        try:
            status, comment = association.store(
                instance.context,
                instance.sop_instance_uid,
                instance.data_set(),
                priority=self._manner.priority,
            )
        except PeerError as error:
            comment = str(error)
        except OSError as error:
            comment = f"{instance.path} cannot be read: {error.strerror or error}"
        self._outcomes.put(Sent(instance, status, comment, monotonic() - begun))
        return association if association.usable else None
