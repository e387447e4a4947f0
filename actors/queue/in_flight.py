"""The messages that this process holds: claimed and not yet at their end.

A message carries the id of the consumer under which it is held. That id changes only here, and only while the
message is held (`rename` excludes `release`), so whoever settles a released message names the right one.
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
    """What becomes of a message when its thread is done with it."""

    FINISHED = "finished"
    RETRY = "retry"
    DEAD = "dead"
    UNSTARTED = "unstarted"


@dataclass(frozen=True, slots=True)
class Ending:
    """A verdict, with its reason and, for a retry, the delay and whether it counts as a failure."""

    verdict: EndingKind
    reason: str = ""
    delay: timedelta = timedelta()
    counted: bool = True


FINISHED = Ending(EndingKind.FINISHED)
UNSTARTED = Ending(EndingKind.UNSTARTED)


class InFlightMessage(MessageProxy):
    """Dramatiq's message and what its row says. `ending` is set by middleware, and FINISHED by default.

    Where the document names another id or queue than its row, the row is right: by it the message was claimed
    and will be settled, and Dramatiq's thread would look for a consumer of that other queue.
    """

    def __init__(self, claimed: Claimed, *, queue_name: str, consumer: int, seats: int = 1) -> None:
        message, self.not_before = decode(claimed, queue_name)
        super().__init__(message)  # type: ignore[no-untyped-call]  # Dramatiq's class has no types
        self.id: str = message.message_id
        self.queue: str = message.queue_name
        self.actor: str = message.actor_name
        self.consumer = consumer
        self.seats = seats
        self.deaths = claimed.deaths
        self.failures = claimed.failures
        self.due = claimed.due
        self.run = claimed.run
        self.ending = FINISHED
        self.handed_out_at = 0.0
        self.began = 0.0


class InFlightMessages:
    """The held messages of one process.

    One id may be held twice: its message was freed from us while a thread ran it, and we claimed it again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: dict[
            int, InFlightMessage
        ] = {}  # by id(), since Dramatiq's messages compare by content

    def add(self, message: InFlightMessage) -> None:
        """The message is held from here on."""
        with self._lock:
            self._messages[id(message)] = message

    def release(self, message: InFlightMessage) -> bool:
        """The message is at its end; its consumer id is final. False if it was released before."""
        with self._lock:
            return self._messages.pop(id(message), None) is not None

    def rename(
        self, adopt: Callable[[Collection[Run]], frozenset[Run]], lost: Collection[int], consumer: int
    ) -> None:
        """Give `consumer` to what was held under one of `lost` and is among the runs that `adopt` returns.

        Releases wait meanwhile: a message released between the statement and its new name would be
        settled under the old one, and stay consumed for ever.
        """
        with self._lock:
            before = [message for message in self._messages.values() if message.consumer in lost]
            adopted = adopt([message.run for message in before])
            for message in before:
                if message.run in adopted:
                    message.consumer = consumer
