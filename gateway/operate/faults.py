"""Inject faults, and end them."""

from datetime import timedelta

from gateway import log
from gateway.database.pool import Database
from gateway.database.tables import activity
from gateway.database.tables import faults as store
from gateway.database.tables.activity import Operator
from gateway.faults import Active, Name
from gateway.log import Stage
from gateway.times import span


def inject(database: Database, fault: Active, *, lasting: timedelta | None, operator: Operator) -> None:
    """Activate a fault for a time, or until it is cleared; it replaces one of the same name."""
    value = "" if fault.value is None else f" {fault.value:g}"
    stage = "" if fault.stage is None else f" at {fault.stage}"
    until = "until it is cleared" if lasting is None else f"for {span(lasting.total_seconds())}"
    with database.transaction() as session:
        store.inject(session, fault, duration=lasting, by=operator.text)
        activity.record(session, operator, "inject-fault", f"{fault.name}{value}{stage}", outcome=until)
    log.write(Stage.FAULT, "injected", level="warning", fault=fault.name.value, detail=f"by {operator.text}")


def clear(database: Database, name: Name | None, operator: Operator) -> list[str]:
    """End the fault of that name, or all; return the names of those that were active."""
    with database.transaction() as session:
        cleared = store.clear(session, name)
        if cleared:
            activity.record(
                session, operator, "clear-faults", ", ".join(cleared), count=len(cleared), outcome="cleared"
            )
    for one in cleared:
        log.write(Stage.FAULT, "cleared", fault=one, detail=f"by {operator.text}")
    return cleared
