"""A TCP relay in front of PostgreSQL that drops the answer, or the statement, that a test names."""

import select
import socket
import threading
from contextlib import suppress

from support.tcp_relay import TcpRelay


class Relay(TcpRelay):
    """Relays both directions on its own port, and loses one answer or statement on request."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._lock = threading.Lock()
        self._order: tuple[bytes, bytes, bool] | None = None
        self._orders = 0
        self.lost = threading.Event()
        """Set when an answer or a statement was lost."""

    def lose_answer(self, to: bytes, *, after: bytes = b"") -> None:
        """Pass on the next statement that contains `to`, and close the connection before its answer.

        With `after`, only on a connection that has passed a statement with that text since the call.
        """
        self._lose(to, after, heard=True)

    def lose_statement(self, to: bytes, *, after: bytes = b"") -> None:
        """End the connection before PostgreSQL gets the statement."""
        self._lose(to, after, heard=False)

    def _lose(self, to: bytes, after: bytes, *, heard: bool) -> None:
        self.lost.clear()
        with self._lock:
            self._order = (after, to, heard)
            self._orders += 1

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        passed, orders = b"", 0
        with client, server, suppress(OSError):  # one side closed: close the other
            while not self._closed.is_set():
                for ready in select.select([client, server], [], [], 0.1)[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    if ready is server:
                        client.sendall(data)
                        continue
                    if orders != self._orders:
                        passed, orders = b"", self._orders
                    heard = self._is_to_be_lost(passed, data)
                    if heard is None:
                        passed = (passed + data)[-(1 << 16) :]
                        server.sendall(data)
                        continue
                    if heard:
                        server.sendall(data)
                        server.recv(1 << 16)  # PostgreSQL has run it; the client gets no answer
                    self.lost.set()
                    return

    def _is_to_be_lost(self, passed: bytes, data: bytes) -> bool | None:
        with self._lock:
            if self._order is None:
                return None
            after, to, heard = self._order
            if to not in data or after not in passed + data:
                return None
            self._order = None
            return heard
