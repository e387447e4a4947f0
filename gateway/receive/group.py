"""Commits together what is ready together, and never makes anyone wait for company.

A thread that has an instance to commit hands it in. If nobody is committing, it commits at once, with
whatever else was handed in; else it waits, and one of those who wait commits for all of them as soon
as the one before is done. So a lone instance costs no delay, and under load one flush of PostgreSQL's log
serves a batch.

A batch is one transaction. If PostgreSQL refuses it, nothing of it was committed, and each instance is
committed alone: one that is refused does not take its neighbours along. If its outcome is unknown, it is
unknown for each.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.errors import DatabaseRefusedError
from gateway.store.instances import Kept, Received

MAX_BATCH = 64
"""Bounds the locks of one transaction."""


@dataclass(slots=True, eq=False)
class _Entry:
    received: Received
    done: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    kept: Kept | None = None
    error: BaseException | None = None


class GroupCommit:
    """Turns single commits of many threads into batches. `commit_batch` is one transaction, in its order."""

    def __init__(self, commit_batch: Callable[[list[Received]], list[Kept]]) -> None:
        self._commit_batch = commit_batch
        self._lock = threading.Lock()
        self._waiting: list[_Entry] = []
        self._busy = False

    def commit(self, received: Received) -> Kept:
        """Committed; what `commit_batch` raises for this instance is raised here."""
        entry = _Entry(received)
        with self._lock:
            self._waiting.append(entry)
            leads = not self._busy
            self._busy = True
        if not leads:
            entry.done.wait()
            leads = entry.leads
        if leads:
            self._lead(entry)
        if entry.error is not None:
            raise entry.error
        assert entry.kept is not None, "done without an error"
        return entry.kept

    def _lead(self, own: _Entry) -> None:
        with self._lock:
            batch = self._waiting[:MAX_BATCH]
            if own not in batch:
                batch[-1] = own
            self._waiting = [entry for entry in self._waiting if entry not in batch]
        try:
            self._commit(batch)
        finally:
            with self._lock:
                heir = self._waiting[0] if self._waiting else None
                self._busy = heir is not None
            for entry in batch:
                entry.done.set()
            if heir is not None:
                heir.leads = True
                heir.done.set()

    def _commit(self, batch: list[_Entry]) -> None:
        # One order of locks for all batches, also those of the other receivers: no deadlock.
        batch.sort(key=lambda entry: entry.received.sop_instance_uid)
        try:
            for entry, kept in zip(batch, self._commit_batch([e.received for e in batch]), strict=True):
                entry.kept = kept
        except DatabaseRefusedError as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            for entry in batch:
                self._commit([entry])
        except BaseException as error:  # noqa: BLE001  each waiter raises it on its own thread
            for entry in batch:
                entry.error = error
