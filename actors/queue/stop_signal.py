"""Mark this process as stopping as soon as it is told to stop.

Dramatiq looks once a second whether a signal came, and ends the process at once at a second signal. Without
the mark, each message that runs then would count a death; three of those make a healthy message dead.

If the process dies
    before the mark   its messages count a death, as after any other kill
    after it          they wait again and count none (`actors.queue.reaper`)
"""

import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic, sleep
from types import FrameType

MARK_SECONDS = 2.0
"""How long a second signal waits for the mark. Supervisors kill after ten seconds or more."""

_POLL_SECONDS = 0.01
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class StopSignal:
    """Calls `mark` in a thread of its own at the first signal; then Dramatiq's handler runs.

    It uses no lock: a signal may interrupt the handler of the signal before.
    """

    def __init__(self, mark: Callable[[], None]) -> None:
        self._mark = mark
        self._came: SimpleQueue[int] = SimpleQueue()
        self._is_first = True
        self._is_marked = False

    def watch(self) -> None:
        """Wrap the signal handlers of this process. Do nothing where Dramatiq's command has set none."""
        if threading.current_thread() is not threading.main_thread():
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        if not all(callable(handler) for handler in before.values()):
            return

        def handle(number: int, frame: FrameType | None) -> None:
            self._note(number)
            handler = before[signal.Signals(number)]
            assert callable(handler)
            handler(number, frame)

        threading.Thread(target=self._run, name="stop signal", daemon=True).start()
        for number in _SIGNALS:
            signal.signal(number, handle)

    def _note(self, number: int) -> None:
        self._came.put(number)
        if self._is_first:
            self._is_first = False
            return
        limit = monotonic() + MARK_SECONDS
        while not self._is_marked and monotonic() < limit:
            sleep(_POLL_SECONDS)

    def _run(self) -> None:
        self._came.get()
        self._mark()
        self._is_marked = True
