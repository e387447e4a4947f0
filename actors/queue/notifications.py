"""Pass the notifications of PostgreSQL on to the consumers of one process.

The process listens on one connection for all its queues, and has a consumer thread for each queue. Each
thread waits for its own event and for the connection. The thread that wakes first reads the notifications,
and sets the events of the others.
"""

import select
from collections.abc import Iterable

from actors.queue.event import PollableEvent
from gateway.database.connection import Connection
from gateway.database.tables import messages


class Notifications:
    """The events of the consumers by queue. Used under the lock of `actors.queue.liveness`."""

    def __init__(self) -> None:
        self._events: dict[str, PollableEvent] = {}

    @property
    def queue_names(self) -> list[str]:
        """The queues that are consumed."""
        return list(self._events)

    def add(self, queue_name: str, event: PollableEvent) -> None:
        """Set this event at each notification for a queue."""
        self._events[queue_name] = event

    def remove(self, queue_name: str) -> None:
        """Forget the event of a queue."""
        self._events.pop(queue_name, None)

    def set_all(self) -> None:
        """Set every event, because notifications may have been lost."""
        for event in self._events.values():
            event.set()

    def pass_on(self, channels: Iterable[str]) -> None:
        """Set the events of the queues that were notified."""
        notified = set(channels)
        if not notified:
            return
        for queue_name, event in self._events.items():
            if messages.channel(queue_name) in notified:
                event.set()


def poll(event: PollableEvent, connection: Connection | None, seconds: float) -> bool:
    """Wait until the event is set, the connection is readable, or `seconds` have passed; clear the event.

    Return True if there is something to read from the connection.
    """
    poller = select.poll()
    poller.register(event.fileno(), select.POLLIN)
    # If another thread closes the connection meanwhile, there is no descriptor, or poll(2) says POLLNVAL.
    descriptor = None if connection is None else connection.descriptor()
    if descriptor is not None:
        poller.register(descriptor, select.POLLIN)
    ready = poller.poll(seconds * 1000)
    event.clear()
    return any(readable != event.fileno() for readable, _ in ready)
