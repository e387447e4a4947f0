"""Delivered files and rows past their retention; never anything undelivered.

The rows are locked while their files go, and deleted in the same transaction: a repeat that comes
meanwhile waits and then finds neither, so it is received as new.

If the process dies between unlink and commit, a delivered row without a file remains; the next run deletes
it, and a repeat before that puts its own file in its place.
"""

import os
import time
from contextlib import suppress

from gateway.domain.instance import Place
from gateway.spool import ORPHANED
from gateway.store import messages, sweeping
from gateway.sweep.verbs import Counts, Sweeping

FILES_PER_TRANSACTION = 100
EMPTY_DIRECTORY_SECONDS = 3600.0
"""Age at which an empty study folder goes; must exceed spool.DIRECTORY_TRUST_SECONDS."""


def purge(context: Sweeping) -> Counts:
    """Nothing delivered is older than the retention; counts `purged`, `orphans_purged`, `folders_removed`."""
    purged = 0
    while True:
        with context.transaction() as session:
            rows = sweeping.lock_purgeable(session, retention=context.retention, limit=FILES_PER_TRANSACTION)
            if not context.dry:
                for row in rows:
                    context.spool.remove(row.place, row.study_instance_uid, row.file_name)
            sweeping.delete_instances(session, [row.instance_id for row in rows])
        purged += len(rows)
        if len(rows) < FILES_PER_TRANSACTION or context.dry:
            break
    if not context.dry:
        with context.database.statement() as session:
            messages.forget_rates(session)
    return {
        "purged": purged,
        "orphans_purged": _orphans(context),
        "folders_removed": _empty_folders(context),
    }


def _orphans(context: Sweeping) -> int:
    before = time.time() - context.retention.total_seconds()
    count = 0
    for path in (context.spool.root / ORPHANED).glob("*/*"):
        with suppress(FileNotFoundError):
            if max(path.stat().st_mtime, path.stat().st_ctime) < before:
                count += 1
                if not context.dry:
                    path.unlink()
    return count


def _empty_folders(context: Sweeping) -> int:
    before = time.time() - EMPTY_DIRECTORY_SECONDS
    count = 0
    for place in (*Place, ORPHANED):
        for folder in (context.spool.root / place).glob("*/"):
            with suppress(OSError):  # not empty, or gone
                if folder.stat().st_mtime < before and not any(folder.iterdir()):
                    if not context.dry:
                        os.rmdir(folder)  # noqa: PTH106  fails on what came in meanwhile, and must
                    count += 1
    return count
