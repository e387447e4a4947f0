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
    """A TCP relay that can start to drop all packets: then not even keepalives are acknowledged.

    After `heal` new connections work again; the old ones stay silent.
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
        """Drop everything that arrives on either side from now on, and relay nothing."""
        self._swallowing.set()
        self._silent.update(self._sockets)
        code = ctypes.create_string_buffer(DROP_ALL)
        program = bytes(_Program(1, ctypes.addressof(code)))
        for one in self._sockets:
            one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def heal(self) -> None:
        """Relay the connections that are opened from now on."""
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
                with suppress(OSError):  # one side closed: close the other
                    data = ready.recv(1 << 16)
                    other[ready].sendall(data)
                if not data:
                    client.shutdown(socket.SHUT_RDWR)
                    return
