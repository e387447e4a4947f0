"""`python -m proof.fuzz.holder`: hold a number of connections open; at the end print a line of JSON.

The kinds: silent connections, half an A-ASSOCIATE-RQ, one byte a second of it, idle associations, a data
set at one byte a second, fragments without an end, and lengths of 4 GiB whose bytes never come. A
connection that the edge closes is opened again.
"""

import argparse
import errno
import json
import resource
import select
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass

from support.dicom_peers import p_data, pdv, store_command

from gateway.dicom import pdu
from proof.fuzz.conversation import Title, request

ADDRESSES = tuple(f"127.0.1.{number}" for number in range(1, 251))
ASSOCIATED = 100
"""How many of them get an association: fewer than the edge admits, so that others find capacity."""
OPENED_PER_SECOND = 1000
"""The rate until the requested number of connections was opened."""
REOPENED_PER_SECOND = 50
"""The rate after that, for connections that the edge closed."""
TICK_SECONDS = 0.1
_WELCOME = (0, errno.EINPROGRESS)


@dataclass(slots=True)
class _Held:
    sock: socket.socket
    way: str
    script: bytes
    drip: bytes = b""
    said: bool = False


class Holder:
    """Keeps `count` connections open."""

    def __init__(self, port: int, count: int, title: Title) -> None:
        self._port = port
        self._count = count
        self._request = request(title)
        self._held: dict[int, _Held] = {}
        self._associated: set[int] = set()
        self._poll = select.epoll()
        self._number = 0
        self.counts: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        """Open missing connections, send single bytes, and notice closed ones, until the time is over."""
        until = time.monotonic() + seconds
        dripped = opened = 0.0
        while time.monotonic() < until:
            if time.monotonic() >= opened:
                opened = time.monotonic() + TICK_SECONDS
                pace = OPENED_PER_SECOND if self._number < self._count else REOPENED_PER_SECOND
                for _ in range(min(int(pace * TICK_SECONDS), self._count - len(self._held))):
                    self._open()
            self.counts["open at once"] = max(self.counts["open at once"], len(self._held))
            for descriptor, event in self._poll.poll(TICK_SECONDS, 1024):
                self._hear(descriptor, event)
            if time.monotonic() - dripped >= 1:
                dripped = time.monotonic()
                for held in list(self._held.values()):
                    self._drip(held)
        for held in self._held.values():
            held.sock.close()

    def _open(self) -> None:
        self._number += 1
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((ADDRESSES[self._number % len(ADDRESSES)], 0))
        if sock.connect_ex(("127.0.0.1", self._port)) not in _WELCOME:
            self.counts["not connected"] += 1
            sock.close()
            return
        held = self._scripted(sock)
        self._held[sock.fileno()] = held
        self._poll.register(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP)
        self.counts["opened"] += 1
        self.counts[held.way] += 1

    def _scripted(self, sock: socket.socket) -> _Held:
        if len(self._associated) < ASSOCIATED:
            self._associated.add(sock.fileno())
            begun = self._request + p_data(store_command())
            return (
                _Held(sock, "associated, silent", self._request),
                _Held(sock, "data set, a byte a second", begun + pdu.data_pdu_header(1, 0, 10_000), b"x"),
                _Held(sock, "fragments without an end", begun, p_data(pdv(1, 0, b"x"), pdv(1, 0, b"")) * 50),
            )[self._number % 3]
        return (
            _Held(sock, "silent", b""),
            _Held(sock, "half a request", self._request[:100]),
            _Held(sock, "request, a byte a second", self._request[:1], self._request[20:21]),
            _Held(sock, "4 GiB announced", pdu.HEADER.pack(pdu.ASSOCIATE_RQ, 0xFFFF_FFFF)),
        )[self._number % 4]

    def _hear(self, descriptor: int, event: int) -> None:
        held = self._held.get(descriptor)
        if held is None:
            return
        if event & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
            self._end(held)
            return
        try:
            if event & select.EPOLLIN and not held.sock.recv(65_536):
                self._end(held)
                return
            if event & select.EPOLLOUT and not held.said:
                held.sock.send(held.script)
                held.said = True
                self._poll.modify(descriptor, select.EPOLLIN | select.EPOLLRDHUP)
        except OSError:
            self._end(held)

    def _drip(self, held: _Held) -> None:
        if not held.drip or not held.said:
            return
        try:
            held.sock.send(held.drip)
            self.counts["drips"] += 1
        except OSError:
            self._end(held)

    def _end(self, held: _Held) -> None:
        """Count a connection that the edge closed."""
        descriptor = held.sock.fileno()
        self._poll.unregister(descriptor)
        self._associated.discard(descriptor)
        del self._held[descriptor]
        held.sock.close()
        self.counts["ended by the edge"] += 1


def main() -> None:
    """Hold the connections, then print what was held."""
    parser = argparse.ArgumentParser(prog="fuzz.holder")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--called", required=True)
    parser.add_argument("--calling", required=True)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    holder = Holder(arguments.port, arguments.connections, Title(arguments.calling, arguments.called))
    holder.run(arguments.seconds)
    sys.stdout.write(json.dumps(holder.counts) + "\n")


if __name__ == "__main__":
    main()
