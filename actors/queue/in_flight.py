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
from gateway.database.tables.messages import Claimed, Run


class EndingKind(Enum):
    """How a message ends."""

    FINISHED = "finished"
    RETRY = "retry"
    DEAD = "dead"
    UNSTARTED = "unstarted"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a message ends, with the reason. A retry has a delay, and may count as a failure."""

    kind: EndingKind
    reason: str = ""
    delay: timedelta = timedelta()
    counted: bool = True


FINISHED = Ending(EndingKind.FINISHED)
UNSTARTED = Ending(EndingKind.UNSTARTED)


class InFlightMessage(MessageProxy):
    """Dramatiq's message with the values of its row. Middleware sets `ending`; the default is FINISHED.

    `not_before` is the time (seconds since 1970) before which it must not run, or None.
    """

    def __init__(self, claimed: Claimed, *, queue_name: str, consumer: int, slots: int = 1) -> None:
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
