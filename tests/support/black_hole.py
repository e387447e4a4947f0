"""A network that drops packets: a TCP connection that ends without FIN."""

import ctypes
import select
import socket
import struct
import threading
from contextlib import suppress

from support.tcp_relay import TcpRelay


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


SO_ATTACH_FILTER = 26
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF: return 0 bytes of every packet


class BlackHole(TcpRelay):
    """A TCP relay that from some moment on hears no packet any more: not even keepalives are acknowledged.

    Healed, it passes on what new connections say; the old ones stay silent for ever.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._sockets: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self._swallowing = threading.Event()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
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

    def _connected(self, client: socket.socket, server: socket.socket) -> None:
        self._sockets += [client, server]
        if self._swallowing.is_set():
            self._silent.update((client, server))

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
