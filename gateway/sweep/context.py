"""What all verbs of the sweep share: their context, dry runs, and the handling of disk errors."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from gateway import log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.wakeup import Wakeup
from gateway.errors import FileMissingError, SpoolError
from gateway.log import Stage
from gateway.spool.flush import failure
from gateway.spool.identity import SpoolIdentity
from gateway.spool.spool import Spool

BATCH = 1000
"""Rows per transaction. Locks are held for milliseconds only, and a crash undoes little."""

EXAMPLES = 10
"""How many files a verb logs one by one: a lost disk would cause a line for every file. All are counted."""

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class SweepContext:
    """The context of a run. With `dry` a verb counts what it would do, and changes nothing.

    With `sliced` each part of a verb gets a slice of time (gateway/sweep/slices.py); `unfinished` are the
    parts that the next run continues. `progress` is told what was looked at: the part and the count.
    No verb runs unless spool and database are a known pair by `identity`; None checks nothing.
    """

    configuration: Configuration
    database: Database
    spool: Spool
    wakeup: Wakeup
    dry: bool = False
    sliced: bool = False
    clock: Callable[[], float] = time.monotonic
    progress: Callable[[str, int], None] | None = None
    unfinished: set[str] = field(default_factory=set)
    identity: SpoolIdentity | None = None

    @property
    def retention(self) -> timedelta:
        """How long delivered instances are stored."""
        return timedelta(hours=self.configuration.sweep.retention_hours)

    @property
    def history(self) -> timedelta:
        """How long the history of what was purged is kept; zero: none is written."""
        return timedelta(days=self.configuration.sweep.history_days)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a transaction, which is rolled back in a dry run."""
        try:
            with self.database.transaction() as session:
                self.require_known(session)
                yield session
                self._undo_if_dry()
        except _DryRunError:
            pass  # the transaction is rolled back; its counts remain

    def require_known(self, session: Session) -> None:
        """Return if spool and database are a known pair.

        Raises:
            UnknownSpoolError: they are not, for example because the disk is not mounted.
        """
        if self.identity is not None:
            self.identity.check(session)

    def _undo_if_dry(self) -> None:
        if self.dry:
            raise _DryRunError

    def wake_all(self) -> None:
        """Wake the consumers, so that they look for deliveries that are due now."""
        if not self.dry:
            self.wakeup.wake("pacs")
            self.wakeup.wake("workers")


class DiskErrors:
    """The disk errors in one run of a verb. All are counted, some are logged, and the verb continues.

    So a read-only disk or one unreadable folder does not stop the rest of the sweep.
    """

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def caught(self, path: Path) -> Iterator[None]:
        """Catch disk errors of the work on one file. A missing file is no error: it was moved meanwhile."""
        try:
            yield
        except (FileMissingError, FileNotFoundError):
            pass
        except (SpoolError, OSError) as error:
            self.count += 1
            if self.count <= EXAMPLES:
                translated = error if isinstance(error, SpoolError) else failure("sweep", path, error)
                log.write(Stage.SWEEP, "file_refused", level="error", error=str(translated))

    def folders(self, folder: Path) -> list[Path]:
        """Return the folders in `folder`; none if it is missing or cannot be read."""
        return [folder / name for name in self.names(folder, of_folders=True)]

    def names(self, folder: Path, *, of_folders: bool) -> list[str]:
        """Return the names of the folders, or of the files, in `folder`; none if it cannot be read."""
        found: list[str] = []
        with self.caught(folder), os.scandir(folder) as entries:
            found += [entry.name for entry in entries if entry.is_dir() == of_folders]
        for name in [name for name in found if not _is_text(name)]:
            found.remove(name)
            with self.caught(folder):
                raise SpoolError(f"{folder} has {name!r}, whose name is not UTF-8: remove it")
        return found


def _is_text(name: str) -> bool:
    """Tell whether a row could have that name; the edge writes no other."""
    return name.isascii() or name == name.encode(errors="replace").decode()


def age_seconds(path: Path | str) -> float:
    """Return the seconds since the file was written, linked or moved; 0 if it cannot be examined."""
    with suppress(OSError):
        status = os.stat(path)  # noqa: PTH116  called for every file: a Path costs as much as the call
        return time.time() - max(status.st_mtime, status.st_ctime)
    return 0.0


class _DryRunError(Exception):
    """Rolls back the transaction of a dry run."""
