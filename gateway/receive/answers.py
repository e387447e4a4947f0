"""Count the answers to C-STOREs, and how long they took, for the metrics.

A C-STORE costs two additions here. Every few seconds the sums go to the counters of the process
(gateway/database/counting.py), which go on while PostgreSQL is away.
"""

import threading
from bisect import bisect_left
from collections import Counter

from gateway.database.counting import Counting
from gateway.database.tables.metrics import DURATION_BOUNDS

RESPONSES = "store_responses"
DURATION = "store_duration_seconds"


class StoreAnswers:
    """The answers of one receiver process. Safe across threads; create it after the fork."""

    def __init__(self, counting: Counting) -> None:
        self._counting = counting
        self._lock = threading.Lock()
        self._statuses: Counter[int] = Counter()
        self._buckets: Counter[int] = Counter()
        self._seconds = 0.0

    def note(self, status: int, seconds: float) -> None:
        """Count an answer with that DIMSE status, `seconds` after its request."""
        with self._lock:
            self._statuses[status] += 1
            self._buckets[bisect_left(DURATION_BOUNDS, seconds)] += 1
            self._seconds += seconds

    def flush(self) -> None:
        """Hand what was counted to the counters of this process."""
        with self._lock:
            statuses, self._statuses = self._statuses, Counter()
            buckets, self._buckets = self._buckets, Counter()
            seconds, self._seconds = self._seconds, 0.0
        for status, count in statuses.items():
            self._counting.add(RESPONSES, {"status": status_label(status)}, count)
        for bucket, count in buckets.items():
            bound = str(DURATION_BOUNDS[bucket]) if bucket < len(DURATION_BOUNDS) else "+Inf"
            self._counting.add(f"{DURATION}_bucket", {"le": bound}, count)
        if statuses:
            self._counting.add(f"{DURATION}_sum", {}, seconds)


def status_label(status: int) -> str:
    """Return a DIMSE status as the label of a metric, as it stands in the log."""
    return f"0x{status:04X}"
