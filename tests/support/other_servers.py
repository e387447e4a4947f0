"""Servers that are no peer: they say nothing, or speak another protocol."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress


@contextmanager
def serving(port: int, answer: Callable[[socket.socket], object]) -> Iterator[None]:
    """Serve each connection to a port with `answer`, in a thread."""
    listener = socket.create_server(("127.0.0.1", port), backlog=32)
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            answer(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
            threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(30)
        for thread in threads:
            thread.join(30)


def silent(connection: socket.socket) -> None:
    """Read until the other side closes, and say nothing."""
    while connection.recv(4096):
        pass


def saying(text: bytes) -> Callable[[socket.socket], None]:
    """Return a server that answers every request with `text`."""

    def say(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(text)

    return say
