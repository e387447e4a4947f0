"""What all verbs share: their surroundings, and how a dry run is kept from changing anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from gateway.config import Configuration
from gateway.spool import Spool
from gateway.store.database import Database, Session
from gateway.store.wakeup import Wakeup

BATCH = 1000
"""Rows per transaction: locks are held for milliseconds, and a death undoes little."""

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Sweeping:
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


class _DryRunError(Exception):
    """Ends the transaction of a dry run."""
