"""Count open associations and connections over all receivers of one port.

The receivers share a table in memory: one slot per association, with the process that serves it, and the
name of its peer with a hash of it. The table is locked by the kernel (`lockf`), which frees the lock of a
process that is killed.

If the process dies
    with open associations   its slots stay taken until the parent frees them (`release_all`)
"""

import fcntl
import mmap
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

_WORD = 8
_NAME_BYTES = 64
"""Longer than an AE title, an `@` and an address."""
MAX_SLOTS = 10_000
"""The largest `edge.max_associations`."""


class AssociationLimits:
    """Slots for at most `total` associations, `per_peer` of them for one peer.

    Create it before the fork, so that all receivers share it. Each of them is told new limits by `change`.
    """

    def __init__(self, total: int, per_peer: int) -> None:
        self._memory = mmap.mmap(-1, 2 * MAX_SLOTS * _WORD)
        words = memoryview(self._memory).cast("q")
        self._all_processes, self._all_peers = words[:MAX_SLOTS], words[MAX_SLOTS : 2 * MAX_SLOTS]
        self._names = memoryview(mmap.mmap(-1, MAX_SLOTS * _NAME_BYTES))
        self._looked_at = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the receivers
        self._thread_lock = threading.Lock()
        self.change(total, per_peer)

    def change(self, total: int, per_peer: int) -> None:
        """Set the limits for new associations in this process; those that are open stay."""
        with self._thread_lock:
            self._total = total
            self._per_peer = per_peer
            # If `total` shrinks, associations may be open in the slots beyond it.
            self._looked_at = max(self._looked_at, total)
            self._processes = self._all_processes[: self._looked_at]
            self._peers = self._all_peers[: self._looked_at]

    def acquire(self, peer: str) -> int | None:
        """Take a slot for one more association of `peer`; return None if a limit is reached."""
        key = _key(peer)
        with self._locked():
            processes = self._processes.tolist()
            open_for_peer = sum(
                1 for process, other in zip(processes, self._peers, strict=True) if process and other == key
            )
            if open_for_peer >= self._per_peer:
                return None
            try:
                slot = processes.index(0, 0, self._total)
            except ValueError:
                return None
            self._processes[slot] = os.getpid()
            self._peers[slot] = key
            self._names[slot * _NAME_BYTES : (slot + 1) * _NAME_BYTES] = _field(peer)
            return slot

    def is_reached_by(self, peer: str) -> bool:
        """Tell whether `peer` has as many associations open as one peer may have."""
        key = _key(peer)
        with self._locked():
            pairs = zip(self._processes, self._peers, strict=True)
            return sum(1 for process, other in pairs if process and other == key) >= self._per_peer

    def holders(self) -> list[tuple[str, int]]:
        """Return each peer with the count of its open associations, the one with the most first."""
        with self._locked():
            names = [
                bytes(self._names[slot * _NAME_BYTES : (slot + 1) * _NAME_BYTES])
                for slot, process in enumerate(self._processes)
                if process
            ]
        return [(name.rstrip(b"\0").decode(), count) for name, count in Counter(names).most_common()]

    def release(self, slot: int) -> None:
        """Free the slot of an association that ended."""
        with self._locked():
            self._all_processes[slot] = 0
            self._all_peers[slot] = 0

    def release_all(self, process: int) -> int:
        """Free every slot of a receiver that died; return how many there were."""
        with self._locked():
            slots = [slot for slot, owner in enumerate(self._all_processes) if owner == process]
            for slot in slots:
                self._all_processes[slot] = 0
                self._all_peers[slot] = 0
        return len(slots)

    def in_use(self) -> int:
        """Return how many associations are open now, over all receivers."""
        with self._locked():
            return sum(1 for process in self._all_processes if process)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # `lockf` locks out other processes only; the threads of this one need a lock of their own.
        with self._thread_lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


class ConnectionCounts:
    """How many connections each receiver of one port serves, to spread new ones evenly.

    One word per receiver, which only that receiver writes. Create it before the fork. The successor of a
    receiver that died takes over its word and sets it to 0.
    """

    def __init__(self, receivers: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, max(receivers * _WORD, mmap.PAGESIZE))).cast("q")[:receivers]

    def set(self, receiver: int, connections: int) -> None:
        """Set how many connections `receiver` serves now."""
        self._counts[receiver] = connections

    def is_above_least(self, receiver: int) -> bool:
        """Tell whether another receiver serves fewer connections than `receiver`."""
        return self._counts[receiver] > min(self._counts)


def _field(peer: str) -> bytes:
    return peer.encode("ascii", "replace")[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0")


def _key(peer: str) -> int:
    return int.from_bytes(blake2b(peer.encode(), digest_size=_WORD).digest(), "little", signed=True) or 1
