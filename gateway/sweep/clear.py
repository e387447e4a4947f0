"""What becomes of the files when the rows are forgotten: the part of `mini-pacs reset-db` on the disk.

Receivers may live meanwhile. A file that has a row, or a receiver that is still at it, stays where it is:
what is acknowledged after the rows were forgotten loses nothing.
"""

from contextlib import suppress
from itertools import islice

from gateway.spool.places import ORPHANED
from gateway.sweep.context import BATCH, Counts, SweepContext
from gateway.sweep.orphans import owners
from gateway.sweep.reconcile import reconcile

AT_ONCE = 0.0
"""The grace of an ordinary reconcile would leave the files for five minutes."""


def clear(context: SweepContext, *, remove: bool) -> Counts:
    """Files without a row are in orphaned/, until purge's retention is over; with `remove` they are gone."""
    sections = context.configuration
    hasty = sections.sweep.model_copy(update={"orphan_grace_seconds": AT_ONCE})
    configuration = sections.model_copy(update={"sweep": hasty})
    counts = reconcile(SweepContext(configuration, context.database, context.spool, context.wakeup))
    return {"orphaned": counts["orphaned"], "removed": _remove(context) if remove else 0}


def _remove(context: SweepContext) -> int:
    """Asked once more, because a row may have come between the look and the move."""
    removed = 0
    files = (context.spool.root / ORPHANED).glob("*/*")
    while batch := list(islice(files, BATCH)):
        for path, owner in owners(context, batch):
            if owner is None:
                with suppress(FileNotFoundError):
                    path.unlink()
                    removed += 1
    return removed
