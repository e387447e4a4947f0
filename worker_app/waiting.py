"""Instances that wait in the worker for their result, alone or as a series.

An instance that waits alone is an open file that is already unlinked, so nothing remains if the process
dies. A series may have more instances than a process may have open files: each is a file in the worker's
temporary folder, which is removed when the worker stops.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class WaitingInstance:
    """An accepted instance without a result; either `file` is set, open and unlinked, or `path`."""

    transfer_syntax_uid: str
    sop_instance_uid: str
    file: BinaryIO | None = None
    path: Path | None = None

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Yield the Part 10 file. Close it afterwards; a `path` may be opened again."""
        if self.file is not None:
            with self.file as file:
                yield file
        else:
            assert self.path is not None
            # `fdopen` gives the file object no name: pydicom would use the name.
            with os.fdopen(os.open(self.path, os.O_RDONLY), "rb") as file:
                yield file

    def discard(self) -> None:
        """Delete the instance."""
        if self.file is not None:
            self.file.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Work:
    """Instances from which results are derived together; `due` is in monotonic seconds."""

    instances: tuple[WaitingInstance, ...]
    due: float
