"""Delivered files and rows past their retention; never anything undelivered.

The rows are locked while their files go, and deleted in the same transaction: a repeat that comes
meanwhile waits and then finds neither, so it is received as new. What the disk does not let go of keeps its
row, is counted, and is tried again by the next run.

If the process dies between unlink and commit, a delivered row without a file remains; the next run deletes
it, and a repeat before that puts its own file in its place.
"""

import os
import time
from contextlib import suppress

from gateway.database.tables import messages, sweeps
from gateway.domain.instance import Place
from gateway.spool.places import DAMAGED, ORPHANED
from gateway.sweep import orphans
from gateway.sweep.context import Counts, Refusals, SweepContext

FILES_PER_TRANSACTION = 100
MAX_KEPT = 1000
"""Rows whose file the disk does not let go of, after which a run is over: it refuses everything."""

EMPTY_DIRECTORY_SECONDS = 3600.0
"""Age at which an empty study folder goes; must exceed places.DIRECTORY_TRUST_SECONDS."""


def purge(context: SweepContext) -> Counts:
    """Nothing delivered is older than the retention; counts what went, came back, and was refused."""
    refusals = Refusals()
    purged = _instances(context, refusals)
    if not context.dry:
        with context.database.statement() as session:
            messages.forget_rates(session)
    return {
        "purged": purged,
        **orphans.empty(context, refusals),
        "folders_removed": _empty_folders(context, refusals),
        "files_refused": refusals.count,
    }


def _instances(context: SweepContext, refusals: Refusals) -> int:
    purged = 0
    kept: set[int] = set()
    while True:
        limit = FILES_PER_TRANSACTION + len(kept)
        with context.transaction() as session:
            rows = sweeps.lock_purgeable(session, retention=context.retention, limit=limit)
            gone = []
            for row in (row for row in rows if row.instance_id not in kept):
                file = (row.place, row.study_instance_uid, row.file_name)
                with refusals.each(context.spool.path(*file)):
                    if not context.dry:
                        context.spool.remove(*file)
                    gone.append(row.instance_id)
            sweeps.delete_instances(session, gone)
        purged += len(gone)
        kept = {row.instance_id for row in rows}.difference(gone)
        if len(rows) < limit or context.dry or len(kept) >= MAX_KEPT:
            return purged


def _empty_folders(context: SweepContext, refusals: Refusals) -> int:
    before = time.time() - EMPTY_DIRECTORY_SECONDS
    count = 0
    for place in (*Place, ORPHANED, DAMAGED):
        for folder in refusals.folders(context.spool.root / place):
            with suppress(OSError):  # not empty, or gone
                if folder.stat().st_mtime < before and not any(folder.iterdir()):
                    if not context.dry:
                        os.rmdir(folder)  # noqa: PTH106  fails on what came in meanwhile, and must
                    count += 1
    return count
