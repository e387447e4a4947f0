"""Limit the messages that this process runs to the number of its threads.

Dramatiq keeps messages that no thread has started in a heap that is not ordered by urgency, and another
process may have an idle thread for them. So a consumer takes a slot for each message before it hands the
message to Dramatiq. The slot is free again when the message ends. Every message that is handed out finds an
idle thread.

In a process that serves several targets, such as archives, each target has a consumer with a *share*: it may
hold at most half of the slots, and leaves one for each target that holds none. So a target that hangs delays
no other.

If the process dies, its slots are gone with it; nothing else depends on them.
"""

import threading

from actors.queue.event import PollableEvent


class Capacity:
    """The slots of one process, shared by the consumers of all its queues.

    Each consumer is identified by its event. The event is set when a consumer that got no slot should ask
    again.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._free = threads
        self._lock = threading.Lock()
        self._waiting: set[PollableEvent] = set()
        self._exclusive: PollableEvent | None = None
        """The consumer that waits for all slots; no other consumer gets a slot meanwhile."""
        self._shares: dict[PollableEvent, int] = {}
        """How many slots each consumer with a share holds."""
        self._closed = False

    def share(self, event: PollableEvent) -> None:
        """Give a consumer a share: it is that of one target among several."""
        with self._lock:
            self._shares.setdefault(event, 0)

    def take(self, event: PollableEvent, most: int | None = None) -> int:
        """Take the free slots, at most `most`; return how many. After 0, `event` is set when one is free."""
        with self._lock:
            if self._exclusive is event:
                # Another process has claimed the message that was to run exclusively.
                self._exclusive = None
            free = self._free_for(event)
            if self._closed or self._exclusive is not None or free == 0:
                self._waiting.add(event)
                return 0
            return self._take(event, free if most is None else min(most, free))

    def _free_for(self, event: PollableEvent) -> int:
        """Return how many slots a consumer may take now."""
        held = self._shares.get(event)
        if held is None or len(self._shares) == 1:
            return self._free
        without = sum(not slots for other, slots in self._shares.items() if other is not event)
        most = max(self.threads // 2, 1) - held
        left = max(self._free - without, min(self._free, 1) if held == 0 else 0)
        return max(min(most, left), 0)

    def _take(self, event: PollableEvent, slots: int) -> int:
        self._free -= slots
        if event in self._shares:
            self._shares[event] += slots
        return slots

    def take_exclusively(self, event: PollableEvent) -> int:
        """Take all slots of the process, or none; return how many.

        After a 0 no other consumer gets a slot until the caller has got all of them.
        """
        with self._lock:
            if self._closed or self._exclusive not in {None, event} or self._free < self.threads:
                if self._exclusive is None:
                    self._exclusive = event
                self._waiting.add(event)
                return 0
            self._exclusive = None
            return self._take(event, self.threads)

    def give_back(self, event: PollableEvent, slots: int) -> None:
        """Free these slots of a consumer, and set the events of the consumers that wait for one."""
        if slots == 0:
            return
        with self._lock:
            self._take(event, -slots)
            events, self._waiting = self._waiting, set()
        for waiting in events:
            waiting.set()

    def forget(self, event: PollableEvent) -> None:
        """Forget a consumer, which takes no slots any more."""
        with self._lock:
            self._waiting.discard(event)
            self._shares.pop(event, None)
            if self._exclusive is event:
                self._exclusive = None

    def close(self) -> None:
        """Give out no slots any more: the threads stop, and would not start a claimed message."""
        with self._lock:
            self._closed = True
