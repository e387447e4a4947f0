"""Let the receivers tell whether their parent runs: it has no thread and no connection to tell it itself.

A timer signal makes the parent note the time in memory that it shares with the receivers. A receiver writes
the row of the parent with that time.
"""

import mmap
import signal
from time import monotonic

PULSE_SECONDS = 2.0


class ParentPulse:
    """When the parent ran last. Create it before the fork."""

    def __init__(self) -> None:
        self._time = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("d")
        self._note()

    def start(self) -> None:
        """Note the time every PULSE_SECONDS; a fork does not inherit the timer. Main thread only."""
        signal.signal(signal.SIGALRM, self._note)
        signal.setitimer(signal.ITIMER_REAL, PULSE_SECONDS, PULSE_SECONDS)

    @property
    def age_seconds(self) -> float:
        """How long ago the parent ran; the clock is the same for all processes of a machine."""
        return max(monotonic() - self._time[0], 0.0)

    def _note(self, *_: object) -> None:
        self._time[0] = monotonic()
