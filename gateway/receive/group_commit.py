"""Batch the commits that are ready at the same time; never delay a single one.

A thread that has an instance to commit either leads or follows:

    leader     no other thread is committing: it commits a batch at once. Its own file is flushed while
               PostgreSQL writes the rows.
    follower   another thread is committing: it flushes its file on its own thread, then waits. One of the
               waiting threads leads the next batch.

So a single instance is not delayed, and under load one flush of PostgreSQL's log serves a whole batch. No row
is committed before its file is flushed.

A batch is one transaction. If PostgreSQL refuses it, nothing was committed. Each instance is then committed
alone, so that one refused instance does not stop the others. If the outcome of the batch is unknown, it is
unknown for each instance. Without `flush` (the leader's file is durable already) the statement commits by
itself, so any lost connection is OutcomeUnknownError.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.database.tables.instances import ReceivedInstance, RegisteredInstance
from gateway.errors import DatabaseRefusedError, SpoolError

MAX_BATCH = 64
"""The most instances in one transaction; limits how many locks it holds."""

Flush = Callable[[], None]
CommitBatch = Callable[[list[ReceivedInstance], Flush | None], list[RegisteredInstance]]
"""Commits a batch in one transaction; finishes the flush, if any, before COMMIT."""


@dataclass(slots=True, eq=False)
class _Entry:
    received: ReceivedInstance
    done: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    registered: RegisteredInstance | None = None
    error: BaseException | None = None


class GroupCommit:
    """Turns single commits of many threads into batches."""

    def __init__(self, commit_batch: CommitBatch) -> None:
        self._commit_batch = commit_batch
        self._lock = threading.Lock()
        self._waiting: list[_Entry] = []
        self._busy = False

    def commit(self, received: ReceivedInstance, flush: Flush | None = None) -> RegisteredInstance:
        """Flush and commit one instance; raise what `flush` or `commit_batch` raised for it.

        `flush` makes the file durable and may be called twice; None if the file is durable already.
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
        assert entry.registered is not None, "done without an error"
        return entry.registered

    def _enter(self, entry: _Entry, *, waits: bool = False) -> bool:
        """Tell whether `entry` leads. Add it to the waiting entries if it does, or if `waits` is set."""
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
                successor = self._waiting[0] if self._waiting else None
                self._busy = successor is not None
            for entry in batch:
                entry.done.set()
            if successor is not None:
                successor.leads = True
                successor.done.set()

    def _commit(self, batch: list[_Entry], own: _Entry, flush: Flush | None) -> None:
        # All receivers lock rows in this order, so two batches cannot deadlock.
        batch.sort(key=lambda entry: entry.received.sop_instance_uid)
        try:
            found = self._commit_batch([entry.received for entry in batch], flush)
            for entry, registered in zip(batch, found, strict=True):
                entry.registered = registered
        except DatabaseRefusedError as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            for entry in batch:
                self._commit([entry], own, flush if entry is own else None)
        except SpoolError as error:
            # Only the leader's flush failed, and nothing was committed. Commit the others without it.
            own.error = error
            if others := [entry for entry in batch if entry is not own]:
                self._commit(others, own, None)
        except BaseException as error:  # noqa: BLE001  each waiter raises it on its own thread
            for entry in batch:
                entry.error = error
