"""Whether messages end so quickly that the next ones are claimed while these still run.

A claim costs a round trip, in which threads that are done with a few quick messages would stand idle; with a
large backlog, whose rows are on pages that nobody has in memory, a longer one. So a consumer whose messages
end within QUICK_SECONDS claims as many ahead as the process has threads. They wait in the consumer, in their
order, not in Dramatiq's heap, which is unordered; what does not start within STALE_SECONDS is given back.

If the process dies, what was claimed ahead does not count that death, since it may never have been started.
It is not claimed ahead again, so the next death with it is counted.
"""

QUICK_SECONDS = 0.05
"""Beyond this the round trip of a claim is no share of a message's time worth having."""

STALE_SECONDS = 0.25
"""What waits so long for a thread is given back: ours hang, and another process may have an idle one."""

_WEIGHT = 0.1  # of the newest message in the mean: forgets a slow one after some tens


class Prefetch:
    """The mean time that messages of one consumer take.

    Written by threads that may overtake each other: it decides nothing but how many are claimed.
    """

    def __init__(self) -> None:
        self._mean = QUICK_SECONDS  # nothing is known, so nothing is claimed ahead

    def note(self, seconds: float) -> None:
        """A message took so long from being handed out to its end."""
        self._mean += (seconds - self._mean) * _WEIGHT

    def stall(self) -> None:
        """No thread was found for what was claimed ahead: not again until messages end quickly."""
        self._mean = max(self._mean, QUICK_SECONDS)

    @property
    def is_quick(self) -> bool:
        """Claim ahead."""
        return self._mean < QUICK_SECONDS
