"""Handle the signals that stop a command: Ctrl-C, SIGTERM, and the end of its terminal."""

import signal
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


def on_stop(handler: Handler) -> None:
    """Call `handler` at each of them. Under nohup the end of the terminal stays ignored."""
    signal.signal(signal.SIGINT, handler)  # also where a shell ignored it, because of `&`
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handler)
