"""Repair units, and act on their overdue results.

    a unit is due and has no message         it gets one: its message was lost, or is dead and was discarded
    its sender is gone, and so is its        the same; the next process claims it and sends it whole
    message
    its result is overdue                    another worker gets it whole, or the result is given up
    its sender died before it corrected      they are corrected
    the folders in the rows
    its application was removed              it is cancelled, once nothing is collected for it any more
    no instance of it is kept                it is deleted

Each unit has a message that is due when something is to be done, so this is rarely needed.
"""

from datetime import timedelta

from gateway import log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.tables import deliveries, units
from gateway.database.tables.results import Expiry
from gateway.database.tables.units import ExpiredUnit
from gateway.database.wakeup import Wakeup
from gateway.domain.routing import Route
from gateway.log import Stage
from gateway.sweep.context import BATCH, Counts, SweepContext

FORGOTTEN = 1000
"""How many units are deleted in one transaction."""


def send_missing_messages(context: SweepContext) -> int:
    """Give a message to each unit that is due and lost its own; return how many.

    A unit that an actor looked at while its application got other times is looked at earlier.
    """
    grace = timedelta(seconds=context.configuration.sweep.reconcile_grace_seconds)
    lease = timedelta(seconds=context.configuration.forwarder.lease_seconds)
    with context.transaction() as session:
        units.look_earlier(session)
        silent = units.silent(session, grace=grace, lease=lease, limit=BATCH)
        for unit_id in silent:
            units.send_message(session, unit_id)
    if silent:
        context.wake_all()
    return len(silent)


def end_removed(context: SweepContext) -> None:
    """Cancel units that no application is there for any more."""
    with context.transaction() as session:
        units.end_removed(session)


def mend_places(context: SweepContext) -> None:
    """Correct the folders in the rows of units whose sender died; reconcile moves the files."""
    grace = timedelta(seconds=context.configuration.sweep.reconcile_grace_seconds)
    with context.transaction() as session:
        deliveries.mend_places(session, units.misplaced(session, grace=grace, limit=BATCH))


def expire(context: SweepContext, *, grace: timedelta) -> Counts:
    """Act on every unit whose result is overdue; count `redispatched` and `timed_out`."""
    counts = {"redispatched": 0, "timed_out": 0}
    with context.database.statement() as session:
        overdue = units.overdue(session, grace=grace, limit=BATCH)
    for unit_id in overdue:
        if context.dry:
            continue
        expired = expire_one(context.configuration, context.database, context.wakeup, unit_id)
        if expired.verdict in counts:
            counts[expired.verdict] += 1
    return counts


def expire_one(configuration: Configuration, database: Database, wakeup: Wakeup, unit_id: int) -> ExpiredUnit:
    """Check one deadline. If it has passed, send the unit whole to another worker or give the result up."""
    applications = configuration.forwarder.applications_in_force
    with database.statement() as session:
        unit = units.get(session, unit_id)
    application = None if unit is None else applications.get(unit.application)
    # A statement of its own: if this process is frozen after it, no registration waits for its locks (G5).
    with database.statement() as session:
        expired = units.expire(
            session, unit_id, max_redispatch=0 if application is None else application.max_redispatch
        )
    if expired.verdict in {Expiry.REDISPATCHED, Expiry.TIMED_OUT}:
        log.write(
            Stage.AI_RESULT,
            expired.verdict.value,
            level="warning" if expired.verdict is Expiry.REDISPATCHED else "error",
            error=f"{expired.worker} did not return its result in time",
            destination=expired.worker,
            study_instance_uid=expired.study_instance_uid,
            detail=f"unit {unit_id} of application {expired.application}",
        )
        wakeup.wake(Route.WORKERS)  # its worker has one result less outstanding
    return expired


def forget(context: SweepContext) -> int:
    """Delete the units of which no instance is kept; return how many."""
    retention = timedelta(hours=context.configuration.sweep.retention_hours)
    with context.transaction() as session:
        return units.forget(session, retention=retention, limit=FORGOTTEN)
