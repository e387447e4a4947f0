"""Complete a unit: send a study or a series now to the applications that wait for the rest of it."""

from gateway import log
from gateway.database.pool import Database
from gateway.database.tables import activity, shown_units
from gateway.database.tables.activity import Operator
from gateway.database.tables.shown_units import CompletedUnit
from gateway.database.wakeup import wake_once
from gateway.domain.routing import Route
from gateway.log import Stage


def complete(
    database: Database, uid: str, application: str | None, operator: Operator
) -> list[CompletedUnit]:
    """Send the instances that have arrived; return the units, none if no application waits for the rest."""
    with database.transaction() as session:
        done = shown_units.complete(session, uid, application=application, by=operator.text)
        if done:
            names = ", ".join(one.application for one in done)
            target = f"study or series {uid} for {names}"
            activity.record(session, operator, "complete", target, count=len(done), outcome="sent as it is")
    if done:
        wake_once(database.dsn, [Route.WORKERS])
        log.write(
            Stage.QUEUE, "completed", level="warning", count=len(done), detail=f"by {operator.text}: {uid}"
        )
    return done
