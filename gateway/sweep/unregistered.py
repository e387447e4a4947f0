"""Register what dead and frozen receivers left, and files in incoming/ that lost their link in a power cut.

If the process dies
    at any line   the links remain; the next run, or the next receiver, continues
"""

from itertools import chain, islice
from pathlib import Path

from gateway.domain.instance import Place
from gateway.register.caller_origin import CallerOrigins
from gateway.register.recovery import Recovery, of_file
from gateway.register.refused import MAX_REFUSALS
from gateway.register.registration import MAX_BATCH, Registration
from gateway.register.unregistered import Unregistered
from gateway.spool.envelope import read_envelope
from gateway.sweep.context import Counts, DiskErrors, SweepContext


def register_left(context: SweepContext, registration: Registration, disk_errors: DiskErrors) -> Counts:
    """Register what is left; count it, and the `.part` files that were never acknowledged."""
    recovery = Recovery(context.spool, grace_seconds=context.configuration.sweep.reconcile_grace_seconds)
    if context.dry:
        receptions, files = recovery.count_left()
        return {"registered": receptions, "parts_removed": files}
    registered = 0
    with disk_errors.caught(context.spool.root):
        left = chain(recovery.of_the_dead(), recovery.of_the_frozen())
        while batch := list(islice(left, MAX_BATCH)):
            _register(registration, batch)
            registered += sum(one.is_done for one in batch)
    disk_errors.count += recovery.refused
    return {"registered": registered, "parts_removed": recovery.parts_removed}


def register_file(context: SweepContext, registration: Registration, path: Path, *, has_row: bool) -> bool:
    """Register a file in incoming/ that has no link any more; tell whether it was acknowledged before."""
    if path.parent.parent.name != Place.INCOMING or path.stat().st_nlink > 1:
        return False
    if context.dry:
        return read_envelope(path) is not None
    one = of_file(context.spool, path, has_row=has_row)
    if one is not None and context.identity is not None and one.envelope.epoch < context.identity.epoch:
        return False  # from before a reset-db
    if one is not None:
        _register(registration, [one])
    return one is not None


def _register(registration: Registration, batch: list[Unregistered]) -> None:
    """Register; try refused receptions again until they are given up. The next run tries the rest."""
    left = batch
    for _ in range(MAX_REFUSALS):
        if left:
            left = registration.register(left)


def registration_of(context: SweepContext) -> Registration:
    """Return the registration for one run of the sweep; look up the hosts of the peers for it."""
    origins = CallerOrigins(context.configuration.forwarder)
    return Registration(
        context.configuration,
        context.database,
        context.spool,
        context.wakeup,
        origins,
        identity=context.identity,
    )
