"""What all verbs share: surroundings, a dry run that changes nothing, a refusing disk that ends nothing."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
from gateway.spool.spool import Spool

BATCH = 1000
"""Rows per transaction: locks are held for milliseconds, and a death undoes little."""

EXAMPLES = 10
"""Files that are logged one by one: a lost disk would fill the next with lines. All are counted."""

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class SweepContext:
    """What a verb works with. `dry` counts what would be done and does nothing."""

    configuration: Configuration
    database: Database
    spool: Spool
    wakeup: Wakeup
    dry: bool = False

    @property
    def retention(self) -> timedelta:
        """How long delivered instances are kept."""
        return timedelta(hours=self.configuration.sweep.retention_hours)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A transaction that is rolled back in a dry run."""
        try:
            with self.database.transaction() as session:
                yield session
                self._undo_if_dry()
        except _DryRunError:
            pass  # what was counted has been undone

    def _undo_if_dry(self) -> None:
        if self.dry:
            raise _DryRunError

    def wake_all(self) -> None:
        """Consumers look for what was made due."""
        if not self.dry:
            self.wakeup.wake("pacs")
            self.wakeup.wake("workers")


class Refusals:
    """What the disk refuses in one run of a verb: counted, a few of them logged, and the verb goes on.

    A disk that is read-only, or has one bad folder, keeps the sweep from nothing else.
    """

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def each(self, path: Path) -> Iterator[None]:
        """Around what is done with one file. One that is gone was moved meanwhile, and is no refusal."""
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
        """The folders in `folder`; none where it is gone or cannot be read."""
        found: list[Path] = []
        with self.each(folder), os.scandir(folder) as entries:
            found += [Path(entry) for entry in entries if entry.is_dir()]
        return found

    def files(self, folder: Path) -> list[Path]:
        """What else is in `folder`; nothing where it is gone or cannot be read."""
        found: list[Path] = []
        with self.each(folder), os.scandir(folder) as entries:
            found += [Path(entry) for entry in entries if not entry.is_dir()]
        return found


def age_seconds(path: Path) -> float:
    """Seconds since the file was written, linked or moved; 0 where it is gone or cannot be looked at."""
    with suppress(OSError):
        status = path.stat()
        return time.time() - max(status.st_mtime, status.st_ctime)
    return 0.0


class _DryRunError(Exception):
    """Ends the transaction of a dry run."""
