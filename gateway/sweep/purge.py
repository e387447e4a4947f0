"""Delete delivered files and rows after their retention; never anything undelivered.

One transaction locks the rows, removes their files, writes their history and deletes the rows. A repeat
that arrives meanwhile waits, finds neither row nor file, and is received as new. A file that cannot be
removed keeps its row; it is counted, and the next run tries again.

A delivery may be settled in a commit that is not durable yet (`gateway.forward.settle`). So before the first
file is removed, everything that was committed is made durable.

If the process dies
    between unlink and commit   a delivered row without a file remains, and the next run deletes it. If the
                                instance is sent again before that, the row gets the new file
"""

import os
import time
from contextlib import suppress

from gateway.database.tables import counters, history, refusals, search_hashes, sweeps
from gateway.database.tables.sweeps import FileRow
from gateway.domain.instance import Place
from gateway.spool.places import DAMAGED, ORPHANED
from gateway.sweep import orphans, unit_repair
from gateway.sweep.context import Counts, DiskErrors, SweepContext
from gateway.sweep.search import hash_new_series
from gateway.sweep.slices import START, Part, sliced
from gateway.sweep.walk import studies

FILES_PER_TRANSACTION = 500
"""The most instances that one transaction locks, and deletes or passes over."""
FEWEST_PER_TRANSACTION = 50
"""The number in the first transaction of a run: the speed of the disk is not known yet."""
TRANSACTION_SECONDS = 0.5
"""How long a transaction should last, because a repeat that arrives meanwhile waits for it. On a slow disk a
transaction has fewer files."""

MAX_NOT_REMOVED = 1000
"""A run ends after this many files that could not be removed: the whole disk seems to have failed."""

MAX_FORGETTING = 10
"""How many slices of the history one run deletes."""

EMPTY_DIRECTORY_SECONDS = 3600.0
"""Age at which an empty study folder is removed; must exceed places.DIRECTORY_TRUST_SECONDS."""


def purge(context: SweepContext) -> Counts:
    """Delete what was delivered before the retention; count what was deleted, moved back and not removed."""
    disk_errors = DiskErrors()
    purged = _instances(context, disk_errors)
    if not context.dry:
        _forget(context)
        unit_repair.forget(context)
    hash_new_series(context)
    return {
        "purged": purged,
        **orphans.purge_old(context, disk_errors),
        "folders_removed": _empty_folders(context, disk_errors),
        "files_refused": disk_errors.count,
    }


def _instances(context: SweepContext, disk_errors: DiskErrors) -> int:
    purged = not_removed = 0
    limit = min(FEWEST_PER_TRANSACTION, FILES_PER_TRANSACTION)
    with sliced(context, Part.OLD_INSTANCES) as piece:
        while not_removed < MAX_NOT_REMOVED:
            began = context.clock()
            with context.transaction() as session:
                old, after = sweeps.lock_purgeable(
                    session, retention=context.retention, after=piece.position, limit=limit
                )
                if old and not context.dry:
                    _make_settles_durable(context)
                removed = _remove_files(context, old, disk_errors)
                if context.history:
                    history.keep(session, removed)
                sweeps.delete_instances(session, removed)
                if not context.history:
                    search_hashes.forget(session, sorted({row.study_instance_uid for row in old}))
            purged += len(removed)
            not_removed += len(old) - len(removed)
            piece.position = after
            piece.looked_at(len(removed))
            if removed:
                piece.has_work()
            if after == START or piece.is_over:
                break
            limit = next_limit(len(removed) or limit, context.clock() - began)
    return purged


def next_limit(done: int, seconds: float) -> int:
    """Return how many instances the next transaction may have, if the last one did so many in `seconds`."""
    in_time = int(done * TRANSACTION_SECONDS / max(seconds, 0.001))
    return min(max(in_time, FEWEST_PER_TRANSACTION), FILES_PER_TRANSACTION)


def _forget(context: SweepContext) -> None:
    """Delete old counters, refusals and history."""
    with context.database.statement() as session:
        counters.forget(session)
        refusals.forget(session, history=context.history)
        for _ in range(MAX_FORGETTING):
            studies = history.forget(session, context.history)
            search_hashes.forget(session, studies)
            if len(studies) < history.FORGET_AT_ONCE:
                break


def _make_settles_durable(context: SweepContext) -> None:
    """Wait until every commit survives a power cut, the settles of the locked rows included.

    It needs a transaction of its own, because the log is written in the order of the commits.
    """
    with context.database.statement() as session:
        sweeps.make_durable(session)


def _remove_files(context: SweepContext, rows: list[FileRow], disk_errors: DiskErrors) -> list[int]:
    """Remove the files of these rows; return the ids of the instances that have none any more."""
    removed = []
    for row in rows:
        file = (row.place, row.study_instance_uid, row.file_name)
        with disk_errors.caught(context.spool.path(*file)):
            if not context.dry:
                context.spool.remove(*file)
            removed.append(row.instance_id)
    return removed


def _empty_folders(context: SweepContext, disk_errors: DiskErrors) -> int:
    root = context.spool.root
    before = time.time() - EMPTY_DIRECTORY_SECONDS
    places = (*Place, ORPHANED, DAMAGED)
    count = 0
    with sliced(context, Part.FOLDERS) as piece:
        for place, study in studies(root, places, after=piece.position, disk_errors=disk_errors):
            folder = root / place / study
            with suppress(OSError):  # not empty, or already removed
                if folder.stat().st_mtime < before and not any(folder.iterdir()):
                    if not context.dry:
                        os.rmdir(folder)  # noqa: PTH106  must fail if a file arrived meanwhile
                    count += 1
                    piece.has_work()
            piece.looked_at(1)
            if piece.is_over:
                piece.position = f"{place}/{study}"
                return count
        piece.position = START
    return count
