"""How long to wait before the next attempt."""

from collections.abc import Callable
from datetime import timedelta

MAX_DOUBLINGS = 30
"""Beyond it the bound applies in any configuration, and the power would only grow."""


def delay(attempt: int, first: timedelta, maximum: timedelta, random: Callable[[], float]) -> timedelta:
    """Exponential with jitter: between half and all of `first` doubled per attempt, at most `maximum`.

    The jitter keeps the deliveries that failed together from coming back together. `attempt` counts
    from 1; `random` returns a float in [0, 1).
    """
    doublings = min(max(attempt - 1, 0), MAX_DOUBLINGS)
    # compared before it is multiplied: a timedelta overflows
    whole = first * (1 << doublings) if maximum // first >= 1 << doublings else maximum
    return whole * (0.5 + random() / 2)
