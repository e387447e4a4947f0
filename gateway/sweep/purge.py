"""Delete delivered files and rows after their retention; never anything undelivered.

One transaction locks the rows, removes their files and deletes the rows. A repeat that arrives meanwhile
waits, finds neither row nor file, and is received as new. A file that cannot be removed keeps its row; it is
counted, and the next run tries again.

If the process dies
    between unlink and commit   a delivered row without a file remains, and the next run deletes it. If the
                                instance is sent again before that, the row gets the new file
"""

import os
import time
from contextlib import suppress

from gateway.database.tables import messages, sweeps
from gateway.domain.instance import Place
from gateway.spool.places import DAMAGED, ORPHANED
from gateway.sweep import orphans
from gateway.sweep.context import Counts, DiskErrors, SweepContext

FILES_PER_TRANSACTION = 100
MAX_NOT_REMOVED = 1000
"""A run ends after this many files that could not be removed: the whole disk seems to have failed."""

EMPTY_DIRECTORY_SECONDS = 3600.0
"""Age at which an empty study folder is removed; must exceed places.DIRECTORY_TRUST_SECONDS."""


def purge(context: SweepContext) -> Counts:
    """Delete what was delivered before the retention; count what was deleted, moved back and not removed."""
    disk_errors = DiskErrors()
    purged = _instances(context, disk_errors)
    if not context.dry:
        with context.database.statement() as session:
            messages.forget_rates(session)
    return {
        "purged": purged,
        **orphans.purge_old(context, disk_errors),
        "folders_removed": _empty_folders(context, disk_errors),
        "files_refused": disk_errors.count,
    }


def _instances(context: SweepContext, disk_errors: DiskErrors) -> int:
    purged = 0
    not_removed: set[int] = set()
    while True:
        limit = FILES_PER_TRANSACTION + len(not_removed)
        with context.transaction() as session:
            rows = sweeps.lock_purgeable(session, retention=context.retention, limit=limit)
            removed = []
            for row in (row for row in rows if row.instance_id not in not_removed):
                file = (row.place, row.study_instance_uid, row.file_name)
                with disk_errors.caught(context.spool.path(*file)):
                    if not context.dry:
                        context.spool.remove(*file)
                    removed.append(row.instance_id)
            sweeps.delete_instances(session, removed)
        purged += len(removed)
        not_removed = {row.instance_id for row in rows}.difference(removed)
        if len(rows) < limit or context.dry or len(not_removed) >= MAX_NOT_REMOVED:
            return purged


def _empty_folders(context: SweepContext, disk_errors: DiskErrors) -> int:
    before = time.time() - EMPTY_DIRECTORY_SECONDS
    count = 0
    for place in (*Place, ORPHANED, DAMAGED):
        for folder in disk_errors.folders(context.spool.root / place):
            with suppress(OSError):  # not empty, or already removed
                if folder.stat().st_mtime < before and not any(folder.iterdir()):
                    if not context.dry:
                        os.rmdir(folder)  # noqa: PTH106  must fail if a file arrived meanwhile
                    count += 1
    return count
