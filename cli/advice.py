"""Map an expected error to its sentence, its exit code, and a hint about what to do."""

import errno
import os

from cli.exit_codes import ExitCode
from gateway.errors import (
    ConfigurationError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    GatewayError,
    OutcomeUnknownError,
    ReloadRefusedError,
    UnknownSpoolError,
)

_INSUFFICIENT_PRIVILEGE = "42501"
_NOT_OUR_SCHEMA = {"3F000", "42P01", "42703", "42883"}
"""Undefined schema, table, column, function (PostgreSQL, Appendix A)."""

_ACCESS = "run the command as the user of the edge, or give this user access (`ls -ld` shows whose it is)"
_SPACE = "free space there (`df -h`), and run the command again"
_OF_SYSTEM = {
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EROFS: "that file system is mounted read-only: remount it, or name another folder",
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.EIO: "the disk has failed to read or write: see `dmesg`",
}


class CommandError(Exception):
    """The end of a command: a sentence, the exit code, and what to do about it."""

    def __init__(self, sentence: str, code: ExitCode, hint: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.hint = hint


class RefusedError(CommandError):
    """A command that names something missing or in the wrong state; the sentence says what to type."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, ExitCode.REFUSED)


class UsageError(CommandError):
    """An option that is wrong, or that conflicts with another one; the sentence says what to type."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, ExitCode.USAGE)


def on(error: Exception) -> tuple[str, ExitCode, str] | None:
    """Return sentence, exit code and hint (which may be empty); None for an unexpected error."""
    if isinstance(error, CommandError):
        return str(error), error.code, error.hint
    if isinstance(error, OSError):
        what = error.strerror or str(error) or type(error).__name__
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"{where}{what}", ExitCode.FAILED, of_system(error)
    code = _exit_code(error)
    return None if code is None else (str(error), code, _hint(error))


def _exit_code(error: Exception) -> ExitCode | None:
    match error:
        case ConfigurationError():
            return ExitCode.USAGE
        case UnknownSpoolError() | ReloadRefusedError():
            return ExitCode.REFUSED
        case DatabaseUnavailableError():
            return ExitCode.UNREACHABLE
        case GatewayError():
            return ExitCode.FAILED
    return None


def _hint(error: Exception) -> str:
    match error:
        case UnknownSpoolError():
            return ""  # the sentence says what to type
        case OutcomeUnknownError():
            return "the change may have been made: look, e.g. with `mini-pacs status`, before you repeat it"
        case DatabaseUnavailableError():
            return "is it running? DATABASE_URL, or POSTGRES_HOST and POSTGRES_PORT, say where it is"
        case DatabaseRefusedError(sqlstate=state) if state == _INSUFFICIENT_PRIVILEGE:
            return "run the command as the owner of the schema, see SECURITY.md"
        case DatabaseRefusedError(sqlstate=state) if state in _NOT_OUR_SCHEMA:
            return "the schema is not the one of this version: `mini-pacs db migrate`"
    return of_system(error.__cause__)


def of_system(error: BaseException | None) -> str:
    """Return what to do about an error of the operating system; empty for any other error."""
    return _OF_SYSTEM.get(error.errno or 0, "") if isinstance(error, OSError) else ""
