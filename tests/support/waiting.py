"""Wait for a condition with a deadline, so that no test sleeps."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_POLL_SECONDS = 0.02
_MOST_TIMES = 4.0
"""Limits how much longer a deadline becomes on a busy machine, so that it stays below pytest's own."""


def wait_until(condition: Callable[[], T], timeout: float, what: str, *, every: float = _POLL_SECONDS) -> T:
    """Return the first true value of `condition`; fail, naming `what`, after `timeout` seconds.

    On a machine with more work than cores it fails later. The condition is evaluated each `every` seconds:
    use more if it costs a shared machine much.
    """
    began = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - began
        if waited > timeout and waited > timeout * _work_per_core():
            raise AssertionError(f"waited {waited:.1f} s in vain for {what}; last seen: {value!r}")
        time.sleep(every)


def _work_per_core() -> float:
    """Return the processes that want to run, per core, over the last minute; between 1 and _MOST_TIMES."""
    return min(max(os.getloadavg()[0] / (os.cpu_count() or 1), 1.0), _MOST_TIMES)
