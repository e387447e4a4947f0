"""Register what dead and frozen receivers left, and files in incoming/ whose link a power cut took.

If the process dies
    at any line   the links remain; the next run, or the next receiver, continues
"""

from itertools import chain, islice
from pathlib import Path

from gateway.domain.instance import Place
from gateway.register.caller_origin import CallerOrigins
from gateway.register.recovery import Recovery, of_file
from gateway.register.registration import MAX_BATCH, Registration
from gateway.register.unregistered import backlog
from gateway.sweep.context import Counts, DiskErrors, SweepContext

COUNT_LIMIT = 100_000
"""How many links a dry run counts."""


def register_left(context: SweepContext, disk_errors: DiskErrors) -> Counts:
    """Register what is left; count it, and the `.part` files that were never acknowledged."""
    if context.dry:
        return {"registered": backlog(context.spool, COUNT_LIMIT).count, "parts_removed": 0}
    recovery = Recovery(context.spool, grace_seconds=context.configuration.sweep.reconcile_grace_seconds)
    registration = registration_of(context)
    registered = 0
    with disk_errors.caught(context.spool.root):
        left = chain(recovery.of_the_dead(), recovery.of_the_frozen())
        while batch := list(islice(left, MAX_BATCH)):
            registration.register(batch)
            registered += sum(one.is_done for one in batch)
    disk_errors.count += recovery.refused
    return {"registered": registered, "parts_removed": recovery.parts_removed}


def register_file(context: SweepContext, path: Path) -> bool:
    """Register a file in incoming/ that has no link any more; tell whether it was acknowledged before."""
    if path.parent.parent.name != Place.INCOMING or path.stat().st_nlink > 1:
        return False
    one = of_file(context.spool, path)
    if one is not None and not context.dry:
        registration_of(context).register([one])
    return one is not None


def registration_of(context: SweepContext) -> Registration:
    """Return what registers for the sweep."""
    origins = CallerOrigins(context.configuration.forwarder)
    return Registration(context.configuration, context.database, context.spool, context.wakeup, origins)
