"""Messages in flight: claimed by this process, and not ended yet.

A message names the consumer id under which this process holds it. When the connection is lost, the id changes
(`actors.queue.adoption`). It changes only while the message is in flight, and never during `remove`. So the
ending of a removed message is written under the id that its row names.

If the process dies, a reaper frees the messages of its consumer id.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from dramatiq.broker import MessageProxy

from actors.queue.document import decode
from gateway.database.tables.deliveries import DeliveryClaim
from gateway.database.tables.messages import Claimed, Run


class EndingKind(Enum):
    """How a message ends."""

    FINISHED = "finished"
    RETRY = "retry"
    DEAD = "dead"
    UNSTARTED = "unstarted"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a message ends, with the reason. A retry has a delay, and may count as a failure."""

    kind: EndingKind
    reason: str = ""
    delay: timedelta = timedelta()
    counted: bool = True


FINISHED = Ending(EndingKind.FINISHED)
UNSTARTED = Ending(EndingKind.UNSTARTED)
SETTLED = Ending(EndingKind.SETTLED)
"""Its message is deleted already, together with the outcome of its delivery."""


class InFlightMessage(MessageProxy):
    """Dramatiq's message with the values of its row. Middleware sets `ending`; the default is FINISHED.

    `not_before` is the time (seconds since 1970) before which it must not run, or None. `claimed_at` is a
    monotonic time before the claim. `settling` is what is written together with the ending, and
    `when_written` is called after that; see `actors.queue.ack`.
    """

    def __init__(
        self,
        claimed: Claimed,
        *,
        queue_name: str,
        consumer: int,
        slots: int = 1,
        held: DeliveryClaim | None = None,
    ) -> None:
        message, self.not_before = decode(claimed, queue_name)
        super().__init__(message)  # type: ignore[no-untyped-call]  # Dramatiq's class has no types
        self.id: str = message.message_id
        self.queue: str = message.queue_name
        self.actor: str = message.actor_name
        self.consumer = consumer
        self.slots = slots
        self.deaths = claimed.deaths
        self.failures = claimed.failures
        self.due = claimed.due
        self.run = claimed.run
        self.ending = FINISHED
        self.handed_out_at = 0.0
        self.began = 0.0
        self.claimed_at = 0.0
        self.settling: object | None = None
        self.settle_waits = False
        self.when_written: Callable[[], None] | None = None
        self._held = held

    @property
    def claimed_target(self) -> str | None:
        """The target of the delivery that was claimed with this message; None if it holds none."""
        return None if self._held is None else self._held.target

    def take_delivery(self, delivery_id: int, destination: str | None) -> DeliveryClaim | None:
        """Return the delivery that was claimed with this message, once; None if it has none.

        If another destination is meant, the configuration has changed since the claim. The delivery is
        released then, and the message runs again. None means any: the claim has chosen the worker.
        """
        held = self._held
        if held is None or held.delivery_id != delivery_id:
            return None
        if destination is not None and held.destination != destination:
            return None
        self._held = None
        return held

    def deliveries_to_release(self) -> list[DeliveryClaim]:
        """Return the delivery that no actor has taken, in a list; the caller makes it pending again.

        If no actor took it, the message must run again: it is the only one of its delivery.
        """
        if self._held is not None and self.ending is FINISHED:
            self.ending = UNSTARTED
        return [] if self._held is None else [self._held]


class InFlightMessages:
    """The messages in flight of one process; safe across threads.

    One message id may be in it twice: another process freed the message while a thread of ours ran it, and
    this process has claimed it again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By id(), because Dramatiq's messages compare by content.
        self._messages: dict[int, InFlightMessage] = {}

    def add(self, message: InFlightMessage) -> None:
        """Add a claimed message."""
        with self._lock:
            self._messages[id(message)] = message

    def remove(self, message: InFlightMessage) -> bool:
        """Remove a message that has ended; return False if it was removed before.

        Its consumer id does not change any more.
        """
        with self._lock:
            return self._messages.pop(id(message), None) is not None

    def rename(
        self, adopt: Callable[[Collection[Run]], frozenset[Run]], lost: Collection[int], consumer: int
    ) -> None:
        """Give the id `consumer` to the messages of the `lost` ids whose runs `adopt` returns.

        `remove` waits meanwhile. Otherwise a message could be removed between the statement of `adopt` and
        the change of its id. It would be settled under the old id, match no row, and stay claimed for ever.
        """
        with self._lock:
            before = [message for message in self._messages.values() if message.consumer in lost]
            adopted = adopt([message.run for message in before])
            for message in before:
                if message.run in adopted:
                    message.consumer = consumer
