"""Wait for a condition with a deadline, so that no test sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_POLL_SECONDS = 0.02


def wait_until(condition: Callable[[], T], timeout: float, what: str, *, every: float = _POLL_SECONDS) -> T:
    """Return the first true value of `condition`; fail, naming `what`, after `timeout` seconds.

    The condition is evaluated each `every` seconds: use more if it costs a shared machine much.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what}; last seen: {value!r}")
        time.sleep(every)
