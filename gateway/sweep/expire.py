"""Results overdue that no message caught.

Each expectation has a message due at its deadline; this is for those whose message was lost or died.
"""

from datetime import timedelta

from gateway import log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.tables import results
from gateway.database.tables.results import Expired, Expiry
from gateway.database.wakeup import Wakeup
from gateway.log import Stage
from gateway.sweep.context import BATCH, Counts, SweepContext

GRACE = timedelta(seconds=5)
"""The message of the deadline goes first; must exceed the second within which it runs."""


def expire(context: SweepContext) -> Counts:
    """Every expectation past its deadline is acted upon; counts by what became of it."""
    counts = {"redispatched": 0, "timed_out": 0}
    with context.database.statement() as session:
        overdue = results.overdue(session, grace=GRACE, limit=BATCH)
    for expectation_id in overdue:
        if context.dry:
            with context.transaction() as session:
                forwarder = context.configuration.forwarder
                expired = results.expire(
                    session,
                    expectation_id,
                    max_redispatch=forwarder.max_redispatch,
                    result_wait=timedelta(seconds=forwarder.worker_timeout_seconds),
                )
        else:
            expired = expire_one(context.configuration, context.database, context.wakeup, expectation_id)
        if expired.verdict in counts:
            counts[expired.verdict] += 1
    return counts


def expire_one(
    configuration: Configuration, database: Database, wakeup: Wakeup, expectation_id: int
) -> Expired:
    """Look at one deadline; where it has passed, another worker is asked, or the result given up."""
    forwarder = configuration.forwarder
    with database.transaction() as session:
        expired = results.expire(
            session,
            expectation_id,
            max_redispatch=forwarder.max_redispatch,
            result_wait=timedelta(seconds=forwarder.worker_timeout_seconds),
        )
        uids = None if expired.instance_id is None else results.uids_of(session, expired.instance_id)
    if expired.verdict in {Expiry.REDISPATCHED, Expiry.TIMED_OUT}:
        log.write(
            Stage.AI_RESULT,
            expired.verdict.value,
            level="warning" if expired.verdict is Expiry.REDISPATCHED else "error",
            error=f"{expired.worker} owes its result for longer than {forwarder.worker_timeout_seconds:g} s",
            destination=expired.worker,
            study_instance_uid=None if uids is None else uids[0],
            sop_instance_uid=None if uids is None else uids[1],
            delivery_id=expired.delivery_id,
            instance_id=expired.instance_id,
        )
    if expired.worker is not None and expired.verdict is not Expiry.POSTPONED:
        # the one that timed out owes one less: there is room for another
        wakeup.wake("workers")
    return expired
