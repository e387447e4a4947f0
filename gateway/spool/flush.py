"""Make folders, flush directories, and turn errors of the file system into `SpoolError`.

What a new file with a new name survives:

    written, nothing flushed       the death of the process; a power cut may take the bytes, the name, or both
    file flushed                   the bytes also survive a power cut; the name may be lost
    file and directory flushed     the bytes and the name survive a power cut

The entry of a new directory belongs to its parent directory: without a flush of the parent, a power cut may
take the directory with all its files.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

from gateway.errors import SpoolError, SpoolFullError

FOLDER_MODE = 0o750
FILE_MODE = 0o640
"""The group may read the images; the operator chooses the group."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


def failure(operation: str, path: Path | str, error: OSError) -> SpoolError:
    """Return the error for a refused file operation; it names the operation, the path and the reason."""
    sentence = f"{operation} {path}: {error.strerror or error}"
    return SpoolFullError(sentence) if error.errno in _FULL else SpoolError(sentence)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, unless they exist; other users cannot open them (G8).

    The mode is explicit: with a wide umask, all users of the machine could read every data set.
    """
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileNotFoundError:
        make_folder(path.parent)
        flush_directory(path.parent.parent)  # survives a power cut: a folder of the spool that was deleted
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except FileExistsError:
        if not path.is_dir():
            raise


def flush_directory(path: Path | str) -> None:
    """Write the entries of a directory to the disk; they survive a power cut when this returns."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_uncommitted(path: Path) -> None:
    """Unlink `path`, ignoring errors; reconcile removes what is left.

    Use it while another error is handled, because an error of the clean-up must not replace that error.
    """
    with suppress(OSError):
        path.unlink()
