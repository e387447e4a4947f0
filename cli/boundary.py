# ruff: noqa: ANN401  depending on its version, Typer uses its own copy of click or the installed click
"""Turn every error of a command into a line on standard error, an exit code, and with `--json` a document.

    an expected error    its sentence, and what to do about it; exit code by its kind
    the file system      the file, what failed, and what to do; exit code 4
    usage                the option and what is expected; exit code 2
    Ctrl-C               "interrupted"; exit code 130
    closed output        the program that reads the output has ended, as in `mini-pacs … | head`: no message;
                         exit code 141 (SIGPIPE)
    any other error      a defect of the program: the file with its details; exit code 4

A traceback goes into a file, or to standard error where MINI_PACS_DEBUG is set.
"""

import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from cli import advice
from cli.documents import Schema, print_document
from cli.exit_codes import ExitCode

DEBUG_VARIABLE = "MINI_PACS_DEBUG"
_WIDTH = re.compile(r"[1-9][0-9]{0,5}")
HELP = {"help_option_names": ["-h", "--help"]}
"""The context settings of every application; its commands inherit them."""

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
ClickError: type[Exception] = UsageError.__bases__[0]
"""The errors that Typer raises for wrong words or options."""


class _InterruptedError(Exception):
    """A replacement for KeyboardInterrupt, which Typer would turn into its own exit code."""


class GuardedGroup(TyperGroup):
    """The group of all commands; this module handles its errors."""

    def invoke(self, ctx: Any) -> object:
        """Run the command that was typed."""
        return _interruptible(super().invoke, ctx)

    def main(self, *args: Any, **extra: Any) -> object:
        """Parse, run, and end the process."""
        return _guarded(super().main, *args, **extra)


class GuardedCommand(TyperCommand):
    """A command that is a separate program; this module handles its errors."""

    def invoke(self, ctx: Any) -> object:
        """Run it."""
        return _interruptible(super().invoke, ctx)

    def main(self, *args: Any, **extra: Any) -> object:
        """Parse, run, and end the process."""
        return _guarded(super().main, *args, **extra)


def _interruptible(invoke: Callable[[Any], object], context: Any) -> object:
    try:
        return invoke(context)
    except KeyboardInterrupt as error:
        raise _InterruptedError from error
    except BrokenPipeError as error:  # Typer would end with exit code 1, which means "refused"
        raise SystemExit(ExitCode.NOT_READ) from error


def _guarded(
    main: Callable[..., object], args: Sequence[str] | None = None, *more: Any, **extra: Any
) -> object:
    if not extra.pop("standalone_mode", True):
        return main(args, *more, standalone_mode=False, **extra)
    words = sys.argv[1:] if args is None else list(args)
    sys.exit(_exit_code(lambda: main(words, *more, standalone_mode=False, **extra), words))


def _exit_code(run: Callable[[], object], words: Sequence[str]) -> int:
    as_json = "--json" in words
    if sys.stdout is None:  # The parent closed it: discard the output.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  stays open until the process ends
    _tolerate_the_terminal()
    try:
        ended = run()
        sys.stdout.flush()  # report a full disk here, not when the interpreter exits
        return ended if isinstance(ended, int) else ExitCode.OK
    except BrokenPipeError:
        return _not_read()
    except SystemExit as error:
        if error.code == ExitCode.NOT_READ:
            return _not_read()
        raise
    except (KeyboardInterrupt, _InterruptedError):
        return _report("interrupted", ExitCode.INTERRUPTED, as_json=as_json)
    except typer.Abort as error:
        return _aborted(error, as_json=as_json)
    except Exception as error:  # noqa: BLE001  the boundary of the process
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        return _report_error(error, as_json=as_json)


def _tolerate_the_terminal() -> None:
    """Print where the environment describes no usable terminal, as in cron or `docker exec`.

    A character that the encoding of the terminal does not have, such as an ellipsis in Latin-1, becomes a
    question mark. A width of 0 columns, or one that is no number, is as if it were not set.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    columns = os.environ.get("COLUMNS", "")
    if not _WIDTH.fullmatch(columns):
        os.environ.pop("COLUMNS", None)


def _report_error(error: Exception, *, as_json: bool) -> int:
    if isinstance(error, ClickError):
        return _usage(error, as_json=as_json)
    sentence, code, hint = advice.on(error) or (
        f"an unexpected error, a defect of mini-pacs: {type(error).__name__}",
        ExitCode.FAILED,
        _details(error),
    )
    try:
        return _report(sentence, code, hint, as_json=as_json)
    except OSError:  # Standard output failed; standard error has the message already.
        return code


def _details(error: Exception) -> str:
    """Write the traceback into a file that only this user can read; return where it is."""
    if os.environ.get(DEBUG_VARIABLE):
        return "its details are above"
    again = f"run the command again with {DEBUG_VARIABLE}=1 to see its details"
    try:
        descriptor, name = tempfile.mkstemp(prefix="mini-pacs-error-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(error))
    except OSError:  # The disk is read-only or full: name the variable instead.
        return again
    return f"its details are in {name}; the change may have been made in part: look with `mini-pacs status`"


def _usage(error: Exception, *, as_json: bool) -> int:
    if as_json:
        sentence: str = getattr(error, "format_message", error.__str__)()
        return _report(sentence, ExitCode.USAGE, as_json=True)
    if sys.stderr is not None:
        with suppress(OSError):
            from typer import rich_utils  # noqa: PLC0415  slow to import, and rarely needed

            show: Callable[..., None] = rich_utils.rich_format_error
            show(error)
    return ExitCode.USAGE


def _aborted(error: typer.Abort, *, as_json: bool) -> int:
    """Report a question that was answered with no or with Ctrl-C, or that got no answer."""
    reason = error.__cause__ or error.__context__
    if reason is not None and sys.stderr is not None:
        sys.stderr.write("\n")  # ends the line of the question
    if isinstance(reason, KeyboardInterrupt):
        return _report("interrupted: nothing was done", ExitCode.INTERRUPTED, as_json=as_json)
    if isinstance(reason, EOFError):
        sentence = "nothing was done: nobody can answer, since standard input is closed; give --yes"
        return _report(sentence, ExitCode.REFUSED, as_json=as_json)
    return _report("nothing was done", ExitCode.REFUSED, as_json=as_json)


def _report(sentence: str, code: ExitCode, hint: str = "", *, as_json: bool) -> int:
    if sys.stderr is not None:  # None where the parent closed it; then only the exit code shows the error
        with suppress(OSError):
            sys.stderr.write(f"mini-pacs: {sentence}{f'; {hint}' if hint else ''}\n")
            sys.stderr.flush()
    if as_json:
        print_document(Schema.ERROR, {"error": sentence, "hint": hint or None, "exit_code": int(code)})
    return code


def _not_read() -> int:
    """Redirect standard output to /dev/null, else the interpreter prints an error when it flushes at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return ExitCode.NOT_READ
