"""Compute how long to wait before the next attempt."""

from collections.abc import Callable
from datetime import timedelta

MAX_DOUBLINGS = 30
"""The largest power of two. Every configuration reaches its longest delay before."""


def delay(attempt: int, first: timedelta, maximum: timedelta, random: Callable[[], float]) -> timedelta:
    """Return an exponential delay with jitter: `first`, doubled per attempt, at most `maximum`.

    The jitter shortens it by up to a half, so that deliveries that failed together are not retried together.
    `attempt` counts from 1; `random` returns a float in [0, 1).
    """
    doublings = min(max(attempt - 1, 0), MAX_DOUBLINGS)
    # Compare before multiplying: a timedelta overflows.
    whole = first * (1 << doublings) if maximum // first >= 1 << doublings else maximum
    return whole * (0.5 + random() / 2)
