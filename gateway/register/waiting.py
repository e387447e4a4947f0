"""The receptions of a receiver process that wait for their registration, in the order in which that happens.

The order is: urgent, then new, then a bounded share of the others. At most MAX_IN_MEMORY receptions are in
memory. Of the others only the number of the `.part` link is in memory; the rest is read again from the
files.

If the process dies, its links remain, and the next process registers them (`gateway.register.recovery`).
"""

from array import array
from collections import deque
from collections.abc import Iterable, Sequence

from gateway.domain.routing import PRIORITY, Urgency
from gateway.register.registration import MAX_BATCH
from gateway.register.unregistered import Unregistered

MAX_IN_MEMORY = 1000

_URGENT = PRIORITY[Urgency.URGENT]


class WaitingReceptions:
    """What waits; used under the lock of the registrar."""

    def __init__(self) -> None:
        self._urgent: deque[Unregistered] = deque()
        self._new: deque[Unregistered] = deque()
        self._urgent_numbers = array("Q")
        self._numbers = array("Q")
        self._deferred: deque[Unregistered] = deque()

    def __len__(self) -> int:
        return self.in_memory + len(self._urgent_numbers) + len(self._numbers)

    @property
    def in_memory(self) -> int:
        """How many are kept whole."""
        return len(self._urgent) + len(self._new) + len(self._deferred)

    @property
    def numbers(self) -> tuple[int, int]:
        """Of how many only the number is kept: urgent ones, and others."""
        return len(self._urgent_numbers), len(self._numbers)

    def add(self, one: Unregistered) -> None:
        """Add a new reception."""
        is_urgent = one.envelope.priority == _URGENT
        if self.in_memory < MAX_IN_MEMORY:
            (self._urgent if is_urgent else self._new).append(one)
        else:
            link = one.link
            assert link is not None, "a new reception has its link"
            numbers = self._urgent_numbers if is_urgent else self._numbers
            numbers.append(int(link.stem, 16))

    def defer(self, receptions: Iterable[Unregistered]) -> None:
        """Add receptions that are to be tried again: they wait for another version, or were refused."""
        self._deferred.extend(receptions)

    def take_new(self) -> list[Unregistered]:
        """Take the next batch from memory, without deferred ones."""
        batch: list[Unregistered] = []
        for waiting in (self._urgent, self._new):
            while waiting and len(batch) < MAX_BATCH:
                batch.append(waiting.popleft())
        return batch

    def take_deferred(self, most: int) -> list[Unregistered]:
        """Take deferred receptions, the first ones first."""
        return [self._deferred.popleft() for _ in range(min(len(self._deferred), most))]

    def take_numbers(self, most: int) -> Sequence[int]:
        """Take the numbers of the next links: up to MAX_BATCH urgent ones, and others up to `most` in all."""
        numbers = self._urgent_numbers[:MAX_BATCH]
        del self._urgent_numbers[:MAX_BATCH]
        room = max(0, most - len(numbers))
        numbers += self._numbers[:room]
        del self._numbers[:room]
        return numbers
