"""Run checks that may hang, each in a thread of its own, and wait for them no longer than a limit.

A name server that does not answer blocks its caller in the C library, where no timeout of ours reaches. The
threads are daemons: one that hangs ends with the process.
"""

import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


class HangsError(Exception):
    """The check did not end in time."""


class RunningCheck(Generic[T]):
    """A check that runs since this object was made, for `seconds` at most."""

    def __init__(self, seconds: float, check: Callable[[], T]) -> None:
        self.seconds = seconds
        self._limit = monotonic() + seconds
        self._ended = threading.Event()
        self._values: list[T] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(check,), daemon=True).start()

    def _run(self, check: Callable[[], T]) -> None:
        try:
            self._values.append(check())
        except BaseException as error:  # noqa: BLE001  raised again by `result`
            self._error = error
        finally:
            self._ended.set()

    def result(self) -> T:
        """Wait for the result and return it; raise what the check raised.

        Raises:
            HangsError: there is no result at the limit.
        """
        if not self._ended.wait(max(self._limit - monotonic(), 0.0)):
            raise HangsError
        if self._error is not None:
            raise self._error
        return self._values[0]


def within(seconds: float, check: Callable[[], T]) -> T:
    """Return the result of `check`; raise what it raises, or HangsError."""
    return RunningCheck(seconds, check).result()
