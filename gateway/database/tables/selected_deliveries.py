"""The deliveries that an operator selects: list them, cancel them, send them again.

Each change is one statement that looks at the states itself, so a delivery that was settled meanwhile is not
changed. deliveries.py is the other half: actors claim and settle deliveries.
"""

from datetime import datetime
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.domain.delivery import State
from gateway.domain.instance import Kind, Place
from gateway.domain.routing import Route

_Q = load("selected_deliveries")


class Changed(NamedTuple):
    """A delivery that an operator changed."""

    delivery_id: int
    instance_id: int


class Delivery(NamedTuple):
    """A delivery as an operator sees it."""

    delivery_id: int
    attempts: int
    redispatches: int
    priority: int
    owed_since: datetime
    next_attempt_at: datetime | None
    settled_at: datetime | None
    settled_by: str | None
    destination: str | None
    last_status: int | None
    last_error: str | None
    instance_id: int
    sop_instance_uid: str
    study_instance_uid: str
    conflict: bool
    file_name: str
    route: Route
    target: str
    state: State
    kind: Kind
    place: Place
    waits_for: int | None
    """The delivery of another version of its SOP Instance UID, which is sent first."""
    waits_for_version: int | None

    @property
    def waiting(self) -> str | None:
        """What it waits for, as text; None where no other version is sent first."""
        return waits_for_version(self.waits_for_version, self.waits_for)


class PastAttempt(NamedTuple):
    """One attempt of a delivery.

    `fenced`: the claim was lost before the attempt ended. Another process had claimed the delivery, a crash
    had undone the claim, or this outcome had been recorded already.
    """

    ended_at: datetime
    duration_ms: float
    destination: str
    outcome: str
    status: int | None
    error: str | None
    fenced: bool


class Selection(NamedTuple):
    """Which deliveries an operator means; None selects all."""

    delivery_id: int | None = None
    study: str | None = None
    state: State | None = None
    route: Route | None = None
    target: str | None = None
    delivery_ids: tuple[int, ...] | None = None

    def parameters(self) -> dict[str, object]:
        """Return the selection as parameters of a statement."""
        return {
            "delivery_id": self.delivery_id,
            "study": self.study,
            "state": None if self.state is None else self.state.value,
            "route": None if self.route is None else self.route.value,
            "target": self.target,
            "delivery_ids": None if self.delivery_ids is None else list(self.delivery_ids),
        }


def waits_for_version(number: int | None, delivery_id: int | None) -> str | None:
    """Return a text for operators that a delivery waits for that version; None if it waits for none."""
    return None if delivery_id is None else f"waits for version {number} (delivery {delivery_id})"


def find(
    session: Session, selection: Selection, *, limit: int = 1000, after: int | None = None
) -> list[Delivery]:
    """Return the selected deliveries, newest first; those before the delivery `after`, if given."""
    return session.rows(Delivery, _Q["find"], **selection.parameters(), limit=limit, after=after)


def attempts_of(session: Session, delivery_id: int) -> list[PastAttempt]:
    """Return the attempts of a delivery, oldest first."""
    return session.rows(PastAttempt, _Q["attempts_of"], delivery_id=delivery_id)


def cancel(session: Session, selection: Selection, *, by: str) -> list[Changed]:
    """Cancel the selected deliveries that are pending or dead; return them."""
    return session.rows(Changed, _Q["cancel"], **selection.parameters(), by=by)


def requeue(session: Session, selection: Selection, *, of: tuple[State, ...]) -> list[Changed]:
    """Make the selected deliveries in one of the states `of` pending again; return them."""
    return session.rows(
        Changed,
        _Q["requeue"],
        **selection.parameters(),
        from_states=[state.value for state in of],
    )


def retry_now(session: Session, selection: Selection) -> list[Changed]:
    """Make the selected deliveries that wait for a later time due now; return them."""
    return session.rows(Changed, _Q["retry_now"], **selection.parameters())
