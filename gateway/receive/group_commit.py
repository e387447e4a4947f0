"""Commits together what is ready together, and never makes anyone wait for company.

A thread that has an instance to commit hands it in. If nobody is committing, it commits at once, and its
file is flushed while PostgreSQL works on the rows; else it flushes its file on its own thread, beside the
others, and waits, and one of those who wait commits for all of them as soon as the one before is done. So a
lone instance costs no delay, and under load one flush of PostgreSQL's log serves a batch.

No row is committed before its file is flushed: what waits is flushed, and what leads commits after it was.

A batch is one transaction. If PostgreSQL refuses it, nothing of it was committed, and each instance is
committed alone: one that is refused does not take its neighbours along. If its outcome is unknown, it is
unknown for each.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.database.tables.instances import ReceivedInstance, RegisteredInstance
from gateway.errors import DatabaseRefusedError, SpoolError

MAX_BATCH = 64
"""Bounds the locks of one transaction."""

Flush = Callable[[], None]
CommitBatch = Callable[[list[ReceivedInstance], Flush | None], list[RegisteredInstance]]
"""One transaction, in its order; the flush, if any, is done before it is committed."""


@dataclass(slots=True, eq=False)
class _Entry:
    received: ReceivedInstance
    done: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    kept: RegisteredInstance | None = None
    error: BaseException | None = None


class GroupCommit:
    """Turns single commits of many threads into batches."""

    def __init__(self, commit_batch: CommitBatch) -> None:
        self._commit_batch = commit_batch
        self._lock = threading.Lock()
        self._waiting: list[_Entry] = []
        self._busy = False

    def commit(self, received: ReceivedInstance, flush: Flush | None = None) -> RegisteredInstance:
        """Flushed and committed; what `flush` or `commit_batch` raises for this instance is raised here.

        `flush` makes the file durable and may be called twice; None where that is done.
        """
        entry = _Entry(received)
        leads = flush is not None and self._enter(entry)
        if not leads:
            if flush is not None:
                flush()
                flush = None
            leads = self._enter(entry, waits=True)
            if not leads:
                entry.done.wait()
                leads = entry.leads
        if leads:
            self._lead(entry, flush)
        if entry.error is not None:
            raise entry.error
        assert entry.kept is not None, "done without an error"
        return entry.kept

    def _enter(self, entry: _Entry, *, waits: bool = False) -> bool:
        """Tell whether the entry leads; where it does not, it is among those who wait if it `waits`."""
        with self._lock:
            leads = not self._busy
            if leads or waits:
                self._waiting.append(entry)
                self._busy = True
            return leads

    def _lead(self, own: _Entry, flush: Flush | None) -> None:
        with self._lock:
            batch = self._waiting[:MAX_BATCH]
            if own not in batch:
                batch[-1] = own
            self._waiting = [entry for entry in self._waiting if entry not in batch]
        try:
            self._commit(batch, own, flush)
        finally:
            with self._lock:
                heir = self._waiting[0] if self._waiting else None
                self._busy = heir is not None
            for entry in batch:
                entry.done.set()
            if heir is not None:
                heir.leads = True
                heir.done.set()

    def _commit(self, batch: list[_Entry], own: _Entry, flush: Flush | None) -> None:
        # One order of locks for all batches, also those of the other receivers: no deadlock.
        batch.sort(key=lambda entry: entry.received.sop_instance_uid)
        try:
            found = self._commit_batch([entry.received for entry in batch], flush)
            for entry, kept in zip(batch, found, strict=True):
                entry.kept = kept
        except DatabaseRefusedError as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            for entry in batch:
                self._commit([entry], own, flush if entry is own else None)
        except SpoolError as error:
            # The flush failed, and nothing was committed: it is the leader's file alone that must go.
            own.error = error
            if others := [entry for entry in batch if entry is not own]:
                self._commit(others, own, None)
        except BaseException as error:  # noqa: BLE001  each waiter raises it on its own thread
            for entry in batch:
                entry.error = error
