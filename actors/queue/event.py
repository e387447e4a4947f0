"""An event that a thread can wait for together with a socket."""

import os
import select
import threading


class PollableEvent:
    """A `threading.Event` with a file descriptor; safe across threads. It is a pipe with at most one byte."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._is_set = False
        self._closed = False

    def fileno(self) -> int:
        """Return the descriptor that is readable while the event is set."""
        return self._read

    def set(self) -> None:
        """Set the event: the present or next wait ends at once."""
        with self._lock:
            if not self._is_set and not self._closed:
                self._is_set = True
                os.write(self._write, b"!")

    def clear(self) -> None:
        """Clear the event."""
        with self._lock:
            if self._is_set and not self._closed:
                self._is_set = False
                os.read(self._read, 1)

    def wait(self, seconds: float) -> None:
        """Return when the event is set, or after `seconds`; clear it."""
        poller = select.poll()
        poller.register(self._read, select.POLLIN)
        poller.poll(seconds * 1000)
        self.clear()

    def close(self) -> None:
        """Close the descriptors; `set` and `clear` do nothing from now on."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._read)
                os.close(self._write)
