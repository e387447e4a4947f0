"""Deliveries of targets that the configuration does not have any more: count, move, or cancel them."""

from collections.abc import Iterable
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables import deliveries, selected_deliveries, units
from gateway.database.tables.selected_deliveries import Changed, Selection
from gateway.domain.delivery import State
from gateway.domain.routing import Route, Target

_Q = load("debts")


class Debt(NamedTuple):
    """What a removed target is owed: `pending` waits, perhaps for its unit; `in_flight` is being sent now.

    The instances of a unit that is being sent are in flight, too.
    """

    route: Route
    name: str
    pending: int
    in_flight: int

    @property
    def target(self) -> Target:
        """The target that was removed."""
        return Target(self.route, self.name)


def owed(session: Session, kept: Iterable[Target]) -> list[Debt]:
    """Return the deliveries that are owed to other targets than `kept`."""
    return session.rows(Debt, _Q["owed"], kept=[f"{target.route}:{target.name}" for target in kept])


def move(session: Session, debt: Debt, to: Target, *, by: str) -> list[int]:
    """Move waiting deliveries to another target; cancel those that it has already. Running sends stay.

    An instance that waits for the rest of its series or study joins the one that the other application
    collects, or is sent alone if that one takes single instances. Return the instances whose files the
    caller must move.
    """
    other = {"to_route": to.route.value, "to_name": to.name}
    released = session.rows(Changed, _Q["release"], route=debt.route.value, name=debt.name, by=by)
    moved = [
        *session.values(_Q["move"], route=debt.route.value, name=debt.name, **other),
        *session.values(_Q["move_released"], ids=[one.delivery_id for one in released], **other),
    ]
    session.run(_Q["join_units"], ids=moved)
    units.end_removed(session)
    places = deliveries.mend_places(session, sorted({one.instance_id for one in released}))
    return sorted({*places, *cancel(session, debt, by=by, states=(State.PENDING,))})


def cancel(
    session: Session, debt: Debt, *, by: str, states: Iterable[State] = (State.PENDING, State.COLLECTING)
) -> list[int]:
    """Cancel the deliveries in these states; return the instances whose files the caller must move."""
    cancelled = [
        changed
        for state in states
        for changed in selected_deliveries.cancel(
            session, Selection(state=state, route=debt.route, target=debt.name), by=by
        )
    ]
    session.run(_Q["drop_messages"], route=debt.route.value, name=debt.name)
    units.end_removed(session)
    return deliveries.mend_places(session, sorted({instance_id for _, instance_id in cancelled}))
