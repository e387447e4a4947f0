"""Hand the configuration that a receiver took over to the receivers that are forked later.

The parent of the receivers has no connection to PostgreSQL, so it keeps the configuration of its start. A
receiver that takes another one writes it into a file that all of them share, and that has no name. A new
receiver reads it.

If the process dies
    while it writes   the digest does not match: a new receiver begins with the configuration of the parent,
                      and takes the right one when it reaches PostgreSQL
"""

import fcntl
import hashlib
import os
import tempfile

import yaml

from gateway import config
from gateway.config import Configuration
from gateway.errors import ConfigurationError

_DIGEST_BYTES = 32


class Handover:
    """The shared file. Create it before the fork."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the processes

    def write(self, configuration: Configuration) -> None:
        """Store the content of a file that was taken."""
        text = yaml.safe_dump(dict(configuration.content)).encode()
        descriptor = self._file.fileno()
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        try:
            # The offset of the file is shared with other processes: use none.
            os.pwrite(descriptor, hashlib.sha256(text).digest() + text, 0)
            os.ftruncate(descriptor, _DIGEST_BYTES + len(text))
        finally:
            fcntl.lockf(descriptor, fcntl.LOCK_UN)

    def read(self, of_start: Configuration) -> Configuration:
        """Return what was taken last; `of_start` if nothing was."""
        descriptor = self._file.fileno()
        fcntl.lockf(descriptor, fcntl.LOCK_SH)
        try:
            stored = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        finally:
            fcntl.lockf(descriptor, fcntl.LOCK_UN)
        digest, text = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        if hashlib.sha256(text).digest() != digest:
            return of_start
        try:
            return config.of_content(yaml.safe_load(text), of_start.source)
        except ConfigurationError:
            return of_start
