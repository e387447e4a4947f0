"""Move or remove the files of deleted rows: the part of `mini-pacs reset-db` on the disk.

Receivers may run meanwhile. A file that has a row, or that a receiver is still writing, stays where it is. So
an instance that is acknowledged after the rows were deleted keeps its file.
"""

from contextlib import suppress
from itertools import islice

from gateway.spool.places import ORPHANED
from gateway.sweep.context import BATCH, Counts, SweepContext
from gateway.sweep.orphans import owners
from gateway.sweep.reconcile import reconcile

NO_GRACE = 0.0
"""Used as `sweep.orphan_grace_seconds` in this run; with the configured value, new files would stay."""


def clear(context: SweepContext, *, remove: bool) -> Counts:
    """Move files without a row to orphaned/, for purge to delete later; with `remove` delete them now."""
    sections = context.configuration
    without_grace = sections.sweep.model_copy(update={"orphan_grace_seconds": NO_GRACE})
    configuration = sections.model_copy(update={"sweep": without_grace})
    counts = reconcile(
        SweepContext(
            configuration, context.database, context.spool, context.wakeup, identity=context.identity
        )
    )
    return {"orphaned": counts["orphaned"], "removed": _remove(context) if remove else 0}


def _remove(context: SweepContext) -> int:
    """Remove files without a row. Query the owners again: a row may have been committed since the move."""
    removed = 0
    files = (context.spool.root / ORPHANED).glob("*/*")
    while batch := list(islice(files, BATCH)):
        for path, owner in owners(context, batch):
            if owner is None:
                with suppress(FileNotFoundError):
                    path.unlink()
                    removed += 1
    return removed
