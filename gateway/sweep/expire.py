"""Act on overdue results: ask another worker, or mark the result as timed out.

Each expected result has a message that is due at its deadline and calls `expire_one`. The verb `expire` is
for results whose message was lost or is dead.
"""

from datetime import UTC, datetime, timedelta

from gateway import log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import results
from gateway.database.tables.results import Expired, Expiry
from gateway.database.wakeup import Wakeup
from gateway.log import Stage
from gateway.register.unregistered import backlog
from gateway.spool.spool import Spool
from gateway.sweep import unit_repair
from gateway.sweep.context import BATCH, Counts, SweepContext

LOOKED_AT = 1000
"""How many unregistered receptions are looked at to find an old one."""

HELD_BACK_AFTER = timedelta(seconds=1)
"""Receptions younger than this are being registered; a deadline does not wait for them."""

GRACE = timedelta(seconds=5)
"""How long after a deadline the verb waits for its message, which usually runs within a second."""


def expire(context: SweepContext) -> Counts:
    """Act on every expected result past its deadline; count `redispatched` and `timed_out`."""
    counts = {"redispatched": 0, "timed_out": 0}
    if is_held_back(context.spool):
        return counts
    with context.database.statement() as session:
        overdue = results.overdue(session, grace=GRACE, limit=BATCH)
    for expectation_id in overdue:
        if context.dry:
            with context.transaction() as session:
                expired, _ = _expire(context.configuration, session, expectation_id)
        else:
            expired = expire_one(context.configuration, context.database, context.wakeup, expectation_id)
        if expired.verdict in counts:
            counts[expired.verdict] += 1
    for verdict, count in unit_repair.expire(context, grace=GRACE).items():
        counts[verdict] += count
    return counts


def is_held_back(spool: Spool) -> bool:
    """Tell whether no deadline may expire now: a result that was received before it may be unregistered."""
    oldest = backlog(spool, LOOKED_AT).oldest
    return oldest is not None and datetime.now(UTC) - oldest > HELD_BACK_AFTER


def expire_one(
    configuration: Configuration, database: Database, wakeup: Wakeup, expectation_id: int
) -> Expired:
    """Check one deadline. If it has passed, send the instance to another worker or give the result up."""
    with database.transaction() as session:
        expired, timeout = _expire(configuration, session, expectation_id)
        uids = None if expired.instance_id is None else results.uids_of(session, expired.instance_id)
    if expired.verdict in {Expiry.REDISPATCHED, Expiry.TIMED_OUT}:
        log.write(
            Stage.AI_RESULT,
            expired.verdict.value,
            level="warning" if expired.verdict is Expiry.REDISPATCHED else "error",
            error=f"{expired.worker} did not return its result within {timeout.total_seconds():g} s",
            destination=expired.worker,
            study_instance_uid=None if uids is None else uids[0],
            sop_instance_uid=None if uids is None else uids[1],
            delivery_id=expired.delivery_id,
            instance_id=expired.instance_id,
        )
    if expired.worker is not None and expired.verdict is not Expiry.POSTPONED:
        # The worker that timed out has one result less outstanding, so it may get another instance.
        wakeup.wake("workers")
    return expired


def _expire(configuration: Configuration, session: Session, expectation_id: int) -> tuple[Expired, timedelta]:
    """Check a deadline by the limits of its application; return the outcome, and the time that was allowed.

    An application that is no longer configured asks no other worker.
    """
    forwarder = configuration.forwarder
    name = results.application_of(session, expectation_id)
    application = forwarder.applications_in_force.get(name or "")
    timeout = (
        timedelta(seconds=forwarder.worker_timeout_seconds)
        if application is None
        else application.result_timeout
    )
    expired = results.expire(
        session,
        expectation_id,
        max_redispatch=0 if application is None else application.max_redispatch,
        result_wait=timeout,
    )
    return expired, timeout
