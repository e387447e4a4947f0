# ruff: noqa: ANN401  Typer's classes are those of a click of its own, or of the installed one, by its version
"""The one place where a command ends: each error becomes a line for people, and with `--json` a document.

    an error of ours     its sentence, and what to do about it; exit code by its kind
    the file system      what could not be done to which file, and what to do; exit code 4
    usage                the option and what is expected; exit code 2
    Ctrl-C               exit code 130
    nobody reads         `mini-pacs … | head` has seen enough: silence, exit code 141, as of SIGPIPE
    anything else        a defect of the program: where its details are; exit code 4

A traceback is for whoever mends the program: it goes into a file, or onto the screen where MINI_PACS_DEBUG
is set.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from cli import advice
from cli.documents import Schema, print_document
from cli.exit_codes import ExitCode

DEBUG_VARIABLE = "MINI_PACS_DEBUG"
HELP = {"help_option_names": ["-h", "--help"]}
"""The context settings of every application; commands below inherit them."""

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
ClickError: type[Exception] = UsageError.__bases__[0]
"""What Typer raises for words that it cannot take."""


class _InterruptedError(Exception):
    """Ctrl-C, before Typer makes an exit code of it."""


class GuardedGroup(TyperGroup):
    """The root of commands."""

    def invoke(self, ctx: Any) -> object:
        """Run the command that was named."""
        return _interruptible(super().invoke, ctx)

    def main(self, *args: Any, **extra: Any) -> object:
        """Parse, run, and end the process."""
        return _guarded(super().main, *args, **extra)


class GuardedCommand(TyperCommand):
    """A command that is a program of its own."""

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
    except BrokenPipeError as error:  # Typer would say exit code 1, which is "refused"
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
    if sys.stdout is None:  # closed by whoever started us: print to nobody
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  open to the end
    try:
        ended = run()
        sys.stdout.flush()  # a full disk is told of here, not by the interpreter at its end
        return ended if isinstance(ended, int) else ExitCode.OK
    except BrokenPipeError:
        return _not_read()
    except SystemExit as error:
        if error.code == ExitCode.NOT_READ:
            return _not_read()
        raise
    except (KeyboardInterrupt, _InterruptedError):
        return _tell("interrupted", ExitCode.INTERRUPTED, as_json=as_json)
    except typer.Abort as error:
        return _aborted(error, as_json=as_json)
    except Exception as error:  # noqa: BLE001  the boundary of the process
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        return _told(error, as_json=as_json)


def _told(error: Exception, *, as_json: bool) -> int:
    if isinstance(error, ClickError):
        return _usage(error, as_json=as_json)
    sentence, code, hint = advice.on(error) or (
        f"an error that was not foreseen, a defect of mini-pacs: {type(error).__name__}",
        ExitCode.FAILED,
        _details(error),
    )
    try:
        return _tell(sentence, code, hint, as_json=as_json)
    except OSError:  # standard output is what failed; standard error has told
        return code


def _details(error: Exception) -> str:
    """Write the traceback into a file that only this user can read; say where it is."""
    if os.environ.get(DEBUG_VARIABLE):
        return "its details are above"
    again = f"run the command again with {DEBUG_VARIABLE}=1 to see its details"
    try:
        descriptor, name = tempfile.mkstemp(prefix="mini-pacs-error-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(error))
    except OSError:  # read-only or full: the variable is left
        return again
    return f"its details are in {name}; what was asked for may be done in part: look with `mini-pacs status`"


def _usage(error: Exception, *, as_json: bool) -> int:
    if as_json:
        sentence: str = getattr(error, "format_message", error.__str__)()
        return _tell(sentence, ExitCode.USAGE, as_json=True)
    if sys.stderr is not None:
        with suppress(OSError):
            from typer import rich_utils  # noqa: PLC0415  slow, and only for this

            show: Callable[..., None] = rich_utils.rich_format_error
            show(error)
    return ExitCode.USAGE


def _aborted(error: typer.Abort, *, as_json: bool) -> int:
    """A question that was answered no, or with Ctrl-C, or that nobody was there to answer."""
    reason = error.__cause__ or error.__context__
    if reason is not None and sys.stderr is not None:
        sys.stderr.write("\n")  # behind the question
    if isinstance(reason, KeyboardInterrupt):
        return _tell("interrupted: nothing was done", ExitCode.INTERRUPTED, as_json=as_json)
    if isinstance(reason, EOFError):
        sentence = "nothing was done: nobody is there to answer; give --yes where it is meant"
        return _tell(sentence, ExitCode.REFUSED, as_json=as_json)
    return _tell("nothing was done", ExitCode.REFUSED, as_json=as_json)


def _tell(sentence: str, code: ExitCode, hint: str = "", *, as_json: bool) -> int:
    if sys.stderr is not None:  # closed by whoever started us: the exit code is left
        with suppress(OSError):
            sys.stderr.write(f"mini-pacs: {sentence}{f'; {hint}' if hint else ''}\n")
            sys.stderr.flush()
    if as_json:
        print_document(Schema.ERROR, {"error": sentence, "hint": hint or None, "exit_code": int(code)})
    return code


def _not_read() -> int:
    """Let the interpreter flush what is left to nobody, without a complaint of its own."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return ExitCode.NOT_READ
