"""What a command's exit code says; the same for every command."""

from enum import IntEnum


class ExitCode(IntEnum):
    """0 is the only success."""

    OK = 0
    REFUSED = 1  # it ran, but something it was asked to do was refused, is not there, or is not well
    USAGE = 2  # an option, a path or the configuration is wrong; nothing was done
    UNREACHABLE = 3  # the peer or PostgreSQL cannot be reached, or rejects the association
    FAILED = 4  # an error that says what it was
    INTERRUPTED = 130  # Ctrl-C
    NOT_READ = 141  # whoever read the output left, as `head` does
