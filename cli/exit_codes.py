"""The exit codes, the same for every command."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit code of a command; only 0 means success."""

    OK = 0
    REFUSED = 1  # the command ran; something was refused, does not exist, or is a problem
    USAGE = 2  # an option, a path or the configuration is wrong; nothing was done
    UNREACHABLE = 3  # the peer or PostgreSQL cannot be reached, or rejects the association
    FAILED = 4  # any other error; its message says which
    INTERRUPTED = 130  # Ctrl-C
    NOT_READ = 141  # the reader of the output ended, as `head` does
