"""How many messages this process may run: as many as it has threads.

A consumer takes a seat for each message before it hands it to Dramatiq, and the message gives its seat back
when it ends, so what is handed out always finds an idle thread: nothing waits in Dramatiq's heap, which is
unordered, and nothing more urgent behind it. Nothing of this outlives the process.
"""

import os
import select
import threading


class PollableEvent:
    """Wakes one consumer thread out of its wait: a pipe, so that it can wait for a socket as well."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._rung = False
        self._closed = False

    def fileno(self) -> int:
        """What to poll for reading."""
        return self._read

    def ring(self) -> None:
        """The next or present wait ends."""
        with self._lock:
            if not self._rung and not self._closed:
                self._rung = True
                os.write(self._write, b"!")

    def silence(self) -> None:
        """Rings so far are heard."""
        with self._lock:
            if self._rung and not self._closed:
                self._rung = False
                os.read(self._read, 1)

    def wait(self, seconds: float) -> None:
        """Return when rung, or after `seconds`."""
        poller = select.poll()
        poller.register(self._read, select.POLLIN)
        poller.poll(seconds * 1000)
        self.silence()

    def close(self) -> None:
        """The descriptors are closed; rings are ignored from here on."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._read)
                os.close(self._write)


class Capacity:
    """The seats of one process, shared by the consumers of all its queues."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._free = threads
        self._lock = threading.Lock()
        self._starved: set[PollableEvent] = set()
        self._clearing: PollableEvent | None = None
        self._closed = False

    def take(self, bell: PollableEvent, most: int | None = None) -> int:
        """The free seats, at `most` so many, now the caller's. With 0, the bell rings for the next."""
        with self._lock:
            if self._clearing is bell:
                # The message that was to run alone was taken by another process.
                self._clearing = None
            if self._closed or self._clearing is not None or self._free == 0:
                self._starved.add(bell)
                return 0
            taken = self._free if most is None else min(most, self._free)
            self._free -= taken
            return taken

    def take_exclusively(self, bell: PollableEvent) -> int:
        """All seats there are, else 0, and then nobody gets one until the caller has got them all."""
        with self._lock:
            if self._closed or self._clearing not in {None, bell} or self._free < self.threads:
                if self._clearing is None:
                    self._clearing = bell
                self._starved.add(bell)
                return 0
            self._clearing = None
            self._free = 0
            return self.threads

    def leave(self, bell: PollableEvent) -> None:
        """Whoever has this bell wants no seats any more."""
        with self._lock:
            self._starved.discard(bell)
            if self._clearing is bell:
                self._clearing = None

    def give(self, seats: int) -> None:
        """These seats are free again."""
        if seats == 0:
            return
        with self._lock:
            self._free += seats
            bells, self._starved = self._starved, set()
        for bell in bells:
            bell.ring()

    def close(self) -> None:
        """No seat is given out any more: the threads are stopping and would not start what is claimed."""
        with self._lock:
            self._closed = True
