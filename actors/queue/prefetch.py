"""Decide whether a consumer claims messages ahead, that is, before it has idle threads for them.

A claim costs a round trip. If messages end within QUICK_SECONDS, threads would stand idle during each claim;
with a large backlog, whose pages are not in memory, a claim takes even longer. So a consumer of quick
messages claims as many messages as the process has threads, while the ones before them run. They wait in the
consumer, in their order. A message that gets no thread within STALE_SECONDS is given back.

If the process dies, a message that was claimed ahead counts no death, because it may not have started. It is
not claimed ahead again, so its next death is counted.
"""

QUICK_SECONDS = 0.05
"""For slower messages the round trip of a claim does not matter."""

STALE_SECONDS = 0.25
"""After this wait for a thread a message is given back: another process may have an idle one."""

_WEIGHT = 0.1  # weight of the newest message in the mean; a slow one is forgotten after about thirty


class Prefetch:
    """The moving mean of the time that messages of one consumer take.

    Threads write it without a lock: a lost update changes only how many messages are claimed.
    """

    def __init__(self) -> None:
        self._mean = QUICK_SECONDS  # claim nothing ahead before a message has ended

    def note(self, seconds: float) -> None:
        """Note how long a message took, from being handed out to its end."""
        self._mean += (seconds - self._mean) * _WEIGHT

    def stall(self) -> None:
        """Claim nothing ahead until messages end quickly: one that was claimed ahead found no thread."""
        self._mean = max(self._mean, QUICK_SECONDS)

    @property
    def is_quick(self) -> bool:
        """Whether messages end so quickly that the next ones are claimed ahead."""
        return self._mean < QUICK_SECONDS
