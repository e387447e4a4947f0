"""A TCP relay on a port of its own, with a thread for each connection; subclasses decide what it does."""

import socket
import threading
from typing import Self


class TcpRelay:
    """Listens inside the `with`, and runs `_relay` for each client until it returns or the `with` ends."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._listener.close()
        for thread in list(self._threads):
            thread.join()

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        self._listener.settimeout(0.1)
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return  # the test is over
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()  # PostgreSQL does not listen
                continue
            self._connected(client, server)
            self._spawn(self._relay, client, server)

    def _connected(self, client: socket.socket, server: socket.socket) -> None:
        """Prepare a new pair of connections, before any byte is relayed."""

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        """Relay both directions until `_closed` is set."""
        raise NotImplementedError
