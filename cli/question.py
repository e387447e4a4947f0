"""Ask before a change that is hard to undo.

Python's own `input` may miss Ctrl-C. It checks for signals, and then reads the terminal. A signal between
these two steps is noticed only after the next key. Here the signal writes into a pipe, and this module waits
for the pipe and the terminal together. So the signal is noticed whether it comes before or during the wait.
"""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

_YES, _NO = {"y", "yes"}, {"n", "no", ""}


def confirm(question: str) -> None:
    """Ask on standard error; return when the answer is yes.

    Raises:
        typer.Abort: the answer was no (no cause), Ctrl-C (caused by KeyboardInterrupt), or standard input is
            closed (caused by EOFError).
    """
    try:
        while True:
            sys.stderr.write(f"{question} [y/N]: ")
            sys.stderr.flush()
            answer = _line().strip().lower()
            if answer in _YES:
                return
            if answer in _NO:
                raise typer.Abort
            sys.stderr.write("Type y or n.\n")
    except (KeyboardInterrupt, EOFError) as error:
        raise typer.Abort from error


def ask(question: str) -> str:
    """Ask on standard error and return the answer; a line of a pipe is an answer without a question.

    Raises:
        typer.Abort: Ctrl-C.
        typer.BadParameter: nobody is there to answer.
    """
    try:
        if sys.stdin is not None and sys.stdin.isatty():
            sys.stderr.write(question)
            sys.stderr.flush()
        return _line().strip()
    except KeyboardInterrupt as error:
        raise typer.Abort from error
    except EOFError as error:
        raise typer.BadParameter("nobody can answer, since standard input is closed: type it") from error


def _line() -> str:
    """Return the next line of standard input; EOFError where there is none."""
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or replaced in a test by a text
        line = "" if sys.stdin is None else sys.stdin.readline()
    else:
        with _signals() as signals:
            line = _read_line(descriptor, signals)
    if not line:
        raise EOFError
    return line


def _read_line(descriptor: int, signals: int) -> str:
    """Read byte by byte, so that nothing after the line is consumed."""
    line = b""
    while not line.endswith(b"\n"):
        # A signal that arrived earlier ends this wait too. Python then runs its handler, which raises.
        ready, _, _ = select.select([descriptor, signals], [], [])
        if signals in ready:
            os.read(signals, 100)
        if descriptor in ready:
            byte = os.read(descriptor, 1)
            if not byte:
                break
            line += byte
    return line.decode(errors="replace")


@contextmanager
def _signals() -> Iterator[int]:
    """Yield the reading end of a pipe that becomes readable with each signal."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # as `set_wakeup_fd` demands
    previous = signal.set_wakeup_fd(writing)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(previous)
        os.close(reading)
        os.close(writing)
