"""Limit the connections that have not requested an association yet.

A connection that never sends an A-ASSOCIATE-RQ holds a thread until ARTIM runs out. If there are too many,
the oldest one is closed, so that silent connections keep nobody out (G7).
"""

import socket
import threading
from contextlib import suppress

MAX_UNASSOCIATED = 128
"""Connections of one receiver that have not requested an association yet."""


class UnassociatedConnections:
    """The unassociated connections of one receiver, oldest first. Safe across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: dict[int, socket.socket] = {}

    def enter(self, connection: socket.socket) -> None:
        """Add the connection of the calling thread; shut the oldest one down if there are too many."""
        handle = connection.dup()  # TLS moves the socket to a new object, which this class never gets
        with self._lock:
            self._sockets[threading.get_ident()] = handle
            oldest = next(iter(self._sockets)) if len(self._sockets) > MAX_UNASSOCIATED else None
            evicted = None if oldest is None else self._sockets.pop(oldest)
        if evicted is not None:
            with suppress(OSError):  # the peer may have closed it already
                # Wakes the thread that reads from it; that thread closes the connection.
                evicted.shutdown(socket.SHUT_RDWR)
            evicted.close()

    def leave(self) -> None:
        """Remove the connection of the calling thread: it requested an association, or ended."""
        with self._lock:
            handle = self._sockets.pop(threading.get_ident(), None)
        if handle is not None:
            handle.close()
