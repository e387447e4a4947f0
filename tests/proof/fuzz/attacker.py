"""`python -m proof.fuzz.attacker`: one hostile conversation after the other; then print a line of JSON.

It usually has an address and a title of the allowlist, since others are rejected at their first PDU.
"""

import argparse
import contextlib
import json
import random
import socket
import sys
import time
from collections import Counter
from typing import BinaryIO

from gateway.dicom import pdu
from proof.fuzz.conversation import Title, fatal, request, survived, wrong_request
from proof.fuzz.hostile import NESTED

ROUNDS = 12
ROUND = 150
"""PDUs before the responses are read: both must fit the buffers of the kernel."""
PATIENCE_SECONDS = 20.0
STRANGERS = 0.5
"""The share of connections that get no association."""
ADDRESSES = tuple(f"127.0.0.{number}" for number in range(2, 30))
_ENDED = 0


class Attacker:
    """Attacks one port and counts."""

    def __init__(self, port: int, seed: int, called: str, calling: list[str]) -> None:
        self._port = port
        self._rng = random.Random(seed)  # noqa: S311  a run can be repeated
        self._called = called
        self._calling = calling
        self.counts: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        """Run conversations until the time is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            title = Title(self._rng.choice(self._calling), self._called)
            self.counts["connections"] += 1
            try:
                with self._connected() as sock:
                    if self._rng.random() < STRANGERS:
                        self._knock(sock, title)
                    else:
                        self._talk(sock, title)
            except TimeoutError:
                self.counts["hung"] += 1
            except OSError:
                self.counts["reset"] += 1

    def _connected(self) -> socket.socket:
        source = (self._rng.choice(ADDRESSES), 0)
        sock = socket.create_connection(("127.0.0.1", self._port), PATIENCE_SECONDS, source)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _knock(self, sock: socket.socket, title: Title) -> None:
        """Send one wrong PDU instead of an A-ASSOCIATE-RQ, and close."""
        sock.sendall(wrong_request(self._rng, title))
        self.counts["pdus"] += 1
        self.counts["before an association"] += 1
        self._drain(sock)

    def _talk(self, sock: socket.socket, title: Title) -> None:
        """Have an association: send PDUs that it survives, then the one that ends it."""
        sock.sendall(request(title))
        reader = sock.makefile("rb")
        if _next(reader) != pdu.ASSOCIATE_AC:
            self.counts["not let in"] += 1
            return
        for _ in range(self._rng.randint(1, ROUNDS)):
            said = [survived(self._rng) for _ in range(ROUND)]
            sock.sendall(b"".join(raw for raw, _ in said))
            for _ in range(sum(answers for _, answers in said)):
                kind = _next(reader)
                if kind != pdu.P_DATA_TF:
                    self.counts["ended early"] += 1
                    return
                self.counts["answered"] += 1
            self.counts["pdus"] += len(said)
            self.counts["nested"] += sum(NESTED in raw for raw, _ in said if len(raw) > len(NESTED))
        sock.sendall(fatal(self._rng, title))
        self.counts["pdus"] += 1
        self.counts["ended by a PDU"] += 1
        self._drain(sock)

    def _drain(self, sock: socket.socket) -> None:
        """Send nothing more; wait until the other side closes."""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65_536):
                pass


def _next(reader: BinaryIO) -> int:
    """Return the type of the next PDU and skip its body; 0 at the end of the stream."""
    head = reader.read(pdu.HEADER.size)
    if len(head) < pdu.HEADER.size:
        return _ENDED
    kind, length = pdu.HEADER.unpack(head)
    reader.read(length)
    return int(kind)


def main() -> None:
    """Attack, then print what was done."""
    parser = argparse.ArgumentParser(prog="fuzz.attacker")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--called", required=True)
    parser.add_argument("--calling", nargs="+", required=True)
    arguments = parser.parse_args()
    attacker = Attacker(arguments.port, arguments.seed, arguments.called, arguments.calling)
    attacker.run(arguments.seconds)
    sys.stdout.write(json.dumps(attacker.counts) + "\n")


if __name__ == "__main__":
    main()
