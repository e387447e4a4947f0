"""Tell whether this process can write the spool, as its own user, and which spool it is."""

import errno
import getpass
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from gateway.errors import UnknownSpoolError
from gateway.spool.marks import Identity, read_identity
from gateway.spool.spool import FOLDERS

_NO_UNNAMED_FILES = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL}


def os_user() -> str:
    """Return the name of the user that this process runs as, or its number."""
    try:
        return getpass.getuser() if os.geteuid() == os.getuid() else f"uid {os.geteuid()}"
    except (KeyError, OSError):
        return f"uid {os.geteuid()}"  # a container may run under a user id without a name


def identity_of(root: Path) -> Identity | None:
    """Return name and epoch of the spool in `root`; None if it has none, or they cannot be read."""
    with suppress(UnknownSpoolError):
        return read_identity(root)
    return None


def problem_of(root: Path) -> str | None:
    """Return why this process cannot write the spool in `root`; None if it can. Leave no file behind."""
    for folder in (root, *(root / name for name in FOLDERS)):
        try:
            os.stat(folder)  # noqa: PTH116  names the reason, which `os.access` does not
        except OSError as error:
            return f"{folder}: {error.strerror}"
        if not folder.is_dir():
            return f"{folder} is a file; a folder is expected"
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            return f"{folder} is not writable for {os_user()}"
    try:
        _create_file(root)
    except OSError as error:
        return f"create a file in {root}: {error.strerror}"
    return None


def _create_file(folder: Path) -> None:
    """Create a file and remove it. It has no name where the file system supports that."""
    with suppress(AttributeError):  # the system has no O_TMPFILE
        try:
            os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError as error:
            if error.errno not in _NO_UNNAMED_FILES:
                raise
        else:
            return
    path = folder / f".can-write-{uuid4().hex}"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    path.unlink()
