"""Inject faults on purpose, and end them. Every process takes over a change within a second."""

from datetime import timedelta

from gateway import log
from gateway.database.pool import Database
from gateway.database.tables import activity
from gateway.database.tables import faults as store
from gateway.database.tables.activity import Operator
from gateway.faults import EFFECTS, Active, Name
from gateway.log import Stage
from gateway.times import span

LONGEST_FAULT = timedelta(days=7)


def fault_of(name: Name, value: float | None, stage: Stage | None) -> Active:
    """Return the fault with its default value where none is given.

    Raises:
        ValueError: it takes no value, or another one, or has no effect at that stage; says which it takes.
    """
    effect = EFFECTS[name]
    if effect.maximum is None and value is not None:
        raise ValueError(f"{name} takes no value: {effect.text}")
    if effect.maximum is not None:
        value = effect.default if value is None else value
        if value is None or not 0 < value <= effect.maximum:
            raise ValueError(f"{name} takes a value above 0, at most {effect.maximum:g}")
    if stage is not None and stage not in effect.stages:
        raise ValueError(f"{name} has an effect at {', '.join(effect.stages)} only")
    return Active(name, value, stage)


def inject(database: Database, fault: Active, *, lasting: timedelta | None, operator: Operator) -> None:
    """Activate a fault, for `duration` or until it is cleared; replace one of the same name."""
    with database.transaction() as session:
        store.inject(session, fault, duration=lasting, by=operator.text)
        activity.record(session, operator, "inject-fault", fault.name.value, outcome=_told(fault, lasting))
    log.write(Stage.FAULT, "injected", level="warning", fault=fault.name.value, detail=f"by {operator.text}")


def clear(database: Database, name: Name | None, operator: Operator) -> list[str]:
    """Clear the fault of that name (None: all); return the names of those that were active."""
    with database.transaction() as session:
        cleared = store.clear(session, name)
        if cleared:
            activity.record(
                session, operator, "clear-faults", ", ".join(cleared), count=len(cleared), outcome="cleared"
            )
    for one in cleared:
        log.write(Stage.FAULT, "cleared", fault=one, detail=f"by {operator.text}")
    return cleared


def _told(fault: Active, duration: timedelta | None) -> str:
    value = "" if fault.value is None else f"value {fault.value:g}, "
    stage = "all stages" if fault.stage is None else f"stage {fault.stage}"
    until = "until it is cleared" if duration is None else f"for {span(duration.total_seconds())}"
    return f"injected with {value}{stage}, {until}"
