"""How many associations are open, counted over all receivers of one port.

A table in memory that the receivers share: one slot per association, holding the process that serves
it and a hash of its peer. A receiver that dies leaves its slots; the parent clears them (`forget`).
The lock is one of the kernel's, so that a process killed inside leaves it free.
"""

import fcntl
import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

_WORD = 8


class AssociationLimits:
    """Slots for at most `total` associations, `per_peer` of them for one peer. Made before the fork."""

    def __init__(self, total: int, per_peer: int) -> None:
        self._total = total
        self._per_peer = per_peer
        self._memory = mmap.mmap(-1, max(2 * total * _WORD, mmap.PAGESIZE))
        words = memoryview(self._memory).cast("q")
        self._processes = words[:total]
        self._peers = words[total : 2 * total]
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the receivers
        self._thread_lock = threading.Lock()

    def acquire(self, peer: str) -> int | None:
        """A slot for one more association of `peer`, or None where a limit is reached."""
        key = _key(peer)
        with self._locked():
            processes = self._processes.tolist()
            mine = sum(
                1 for process, other in zip(processes, self._peers, strict=True) if process and other == key
            )
            if mine >= self._per_peer:
                return None
            try:
                slot = processes.index(0)
            except ValueError:
                return None
            self._processes[slot] = os.getpid()
            self._peers[slot] = key
            return slot

    def release(self, slot: int) -> None:
        """The association of that slot has ended."""
        with self._locked():
            self._processes[slot] = 0
            self._peers[slot] = 0

    def forget(self, process: int) -> int:
        """Every slot of a receiver that died is free; their count."""
        with self._locked():
            slots = [slot for slot, owner in enumerate(self._processes) if owner == process]
            for slot in slots:
                self._processes[slot] = 0
                self._peers[slot] = 0
        return len(slots)

    def in_use(self) -> int:
        """How many associations are open now, over all receivers."""
        with self._locked():
            return sum(1 for process in self._processes if process)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # A lock of lockf is the process's: threads of one process need one of their own.
        with self._thread_lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


class ConnectionCounts:
    """How many connections each receiver of one port serves, so that who has more lets others go first.

    One word per receiver, written by that one alone. Made before the fork. A receiver that dies leaves its
    count to its successor, who begins with 0.
    """

    def __init__(self, receivers: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, max(receivers * _WORD, mmap.PAGESIZE))).cast("q")[:receivers]

    def tell(self, receiver: int, connections: int) -> None:
        """That receiver serves so many now."""
        self._counts[receiver] = connections

    def has_more(self, receiver: int) -> bool:
        """Tell whether it serves more than another one."""
        return self._counts[receiver] > min(self._counts)


def _key(peer: str) -> int:
    return int.from_bytes(blake2b(peer.encode(), digest_size=_WORD).digest(), "little", signed=True) or 1
