"""A network that swallows packets: a TCP connection that is dropped without FIN."""

import ctypes
import select
import socket
import struct
import threading
from contextlib import suppress
from typing import Self


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


SO_ATTACH_FILTER = 26
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF: return 0 bytes of every packet


class BlackHole:
    """A TCP relay that from some moment on hears no packet any more: not even keepalives are acknowledged.

    Healed, it passes on what new connections say; the old ones stay silent for ever.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self._swallowing = threading.Event()
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._listener.close()
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def swallow(self) -> None:
        """From here on nothing that arrives on either side is seen, and nothing is passed on."""
        self._swallowing.set()
        self._silent.update(self._sockets)
        code = ctypes.create_string_buffer(DROP_ALL)
        program = bytes(_Program(1, ctypes.addressof(code)))
        for one in self._sockets:
            one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def heal(self) -> None:
        """Who connects from here on is heard."""
        self._swallowing.clear()

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
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            if self._swallowing.is_set():
                self._silent.update((client, server))
            self._spawn(self._relay, client, server)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        while not self._closed.is_set():
            for ready in select.select([client, server], [], [], 0.1)[0]:
                if client in self._silent:
                    self._closed.wait(0.1)
                    continue
                data = b""
                with suppress(OSError):  # one side hung up: so do we
                    data = ready.recv(1 << 16)
                    other[ready].sendall(data)
                if not data:
                    client.shutdown(socket.SHUT_RDWR)
                    return
