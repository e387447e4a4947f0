"""The start of `mini-pacs`: end at once on Ctrl-C while the modules are imported.

A KeyboardInterrupt during an import is not reliable: a compiled extension may print it and ignore it. The
command would then run although the user pressed Ctrl-C. So until the command begins, the signal handler ends
the process at once. At that time nothing was changed yet.
"""

import os
import time

_began: list[float] = []


def seconds_since_start() -> float:
    """Return how long this process has run; 0 where it is not the program `mini-pacs`."""
    return time.monotonic() - _began[0] if _began else 0.0


def run() -> None:
    """Run the command that was typed."""
    _began.append(time.monotonic())
    try:
        import signal  # noqa: PLC0415  Ctrl-C during an import outside this `try` prints a traceback

        # If the parent process made us ignore the signal, leave it ignored.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _leave)
        from gateway.importing import importing  # noqa: PLC0415  see above

        with importing():
            from cli.main import run as run_command  # noqa: PLC0415  see above

        run_command()
    except KeyboardInterrupt:
        _leave()


def _leave(*_: object) -> None:
    try:
        os.write(2, b"mini-pacs: interrupted\n")
    finally:  # standard error may be closed
        os._exit(130)


def begin() -> None:
    """Let Ctrl-C raise KeyboardInterrupt from now on; cli/boundary.py reports it."""
    import signal  # noqa: PLC0415  see above

    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
