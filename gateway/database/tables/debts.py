"""What is owed to targets that the configuration does not have any more: counted, moved, or cancelled."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables import deliveries
from gateway.database.tables.deliveries import Selection
from gateway.domain.delivery import State
from gateway.domain.routing import Route, Target

_Q = load("debts")


@dataclass(frozen=True, slots=True)
class Debt:
    """What a removed target is owed: `pending` waits, perhaps for its unit; `in_flight` is being sent now."""

    route: Route
    name: str
    pending: int
    in_flight: int

    @property
    def target(self) -> Target:
        """The target that was removed."""
        return Target(self.route, self.name)


def owed(session: Session, kept: Iterable[Target]) -> list[Debt]:
    """Return what is owed to targets beside `kept`."""
    return session.rows(Debt, _Q["owed"], kept=[f"{target.route}:{target.name}" for target in kept])


def move(session: Session, debt: Debt, to: Target, *, by: str) -> list[int]:
    """Owe the pending deliveries to another target; cancel those of instances that it gets anyway.

    What waits for the rest of its series or study stays: it belongs to a unit of the removed target.
    Return the instances whose files the caller must move.
    """
    session.run(_Q["move"], route=debt.route.value, name=debt.name, to_route=to.route.value, to_name=to.name)
    return cancel(session, debt, by=by, states=(State.PENDING,))


def cancel(
    session: Session, debt: Debt, *, by: str, states: Iterable[State] = (State.PENDING, State.COLLECTING)
) -> list[int]:
    """Cancel the deliveries in these states; return the instances whose files the caller must move."""
    cancelled = [
        changed
        for state in states
        for changed in deliveries.cancel(
            session, Selection(state=state, route=debt.route, target=debt.name), by=by
        )
    ]
    session.run(_Q["drop_messages"], route=debt.route.value, name=debt.name)
    return deliveries.mend_places(session, sorted({instance_id for _, instance_id in cancelled}))
