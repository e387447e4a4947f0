"""The start of `mini-pacs`: end at once on Ctrl-C while the modules are imported.

A KeyboardInterrupt in the middle of an import is not reliable: compiled extensions print and ignore it, and
then the command runs all the same. So until the command begins, the signal ends the process itself. Nothing
was done by then.
"""

import os


def run() -> None:
    """Run the command that was typed."""
    try:
        import signal  # noqa: PLC0415  what is imported before this `try` may end with a traceback

        if (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):  # else whoever started us ignores it
            signal.signal(signal.SIGINT, _leave)
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
    """Let Ctrl-C raise KeyboardInterrupt from now on; cli/boundary.py makes a line and an exit code of it."""
    import signal  # noqa: PLC0415  see above

    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
