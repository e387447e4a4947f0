"""Make folders, flush them, and describe what the file system refuses.

What survives which crash, for a new file with a new name:

    written, nothing flushed       the death of the process; a power cut may take the bytes, the name, or both
    file flushed                   also a power cut, for the bytes; the name may be gone
    file and directory flushed     also a power cut, for the bytes under their name

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
"""The operator chooses the group, and so who may read the images."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


def failure(operation: str, path: Path, error: OSError) -> SpoolError:
    """Return the error for a refused file operation; it names the operation, the path and the reason."""
    sentence = f"{operation} {path}: {error.strerror or error}"
    return SpoolFullError(sentence) if error.errno in _FULL else SpoolError(sentence)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, unless they exist; other users cannot open them (G8).

    The mode is given here because a wide umask would open every data set to all users of the machine.
    """
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except FileExistsError:
        if not path.is_dir():
            raise


def flush_directory(path: Path) -> None:
    """Write the entries of a directory to the disk; they survive a power cut when this returns."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_uncommitted(path: Path) -> None:
    """Unlink `path`, ignoring errors; reconcile removes what is left.

    For use while another error is handled, which must not be replaced by one of the clean-up.
    """
    with suppress(OSError):
        path.unlink()
