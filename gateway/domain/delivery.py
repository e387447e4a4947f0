"""The states of a delivery (one instance, to be sent to one target) and the only transitions between them.

`TRANSITIONS` is the single definition. SQL statements get their from-states from it, and a trigger in the
database refuses every other pair; tests compare trigger and table.
"""

from enum import StrEnum


class State(StrEnum):
    """The states of a committed delivery (G2)."""

    COLLECTING = "collecting"  # waits for the rest of its series or study, and is sent with it
    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What can happen to a delivery."""

    COLLECT = "collect"  # its application gets whole series or studies
    UNIT_SENT = "unit_sent"  # the worker has it, and the rest of its unit
    UNIT_REFUSED = (
        "unit_refused"  # the worker refuses it and takes the rest of its unit, or the unit is given up
    )
    CLAIM = "claim"  # an actor starts to send it
    RECLAIM = "reclaim"  # the actor that claimed it has died, or its lease has expired
    DELIVER = "deliver"  # the peer has stored it
    RETRY = "retry"  # the attempt failed; try again later
    RESCUE = "rescue"  # the sweep found it in flight, and its lease is over
    DIE = "die"  # it cannot be delivered, or its retries are used up
    CANCEL = "cancel"  # an operator does not want it sent
    REQUEUE = "requeue"  # an operator wants it sent (again)
    REPEAT = "repeat"  # the sender sent the instance again
    REDISPATCH = "redispatch"  # the result of the worker that got it is overdue
    ANSWERED = "answered"  # the late result arrived before the redispatch was sent


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.PENDING, Event.COLLECT): State.COLLECTING,
    (State.COLLECTING, Event.UNIT_SENT): State.DELIVERED,
    (State.COLLECTING, Event.UNIT_REFUSED): State.DEAD,
    (State.COLLECTING, Event.CANCEL): State.CANCELLED,
    (State.PENDING, Event.CLAIM): State.IN_FLIGHT,
    (State.IN_FLIGHT, Event.RECLAIM): State.IN_FLIGHT,
    (State.IN_FLIGHT, Event.DELIVER): State.DELIVERED,
    (State.IN_FLIGHT, Event.RETRY): State.PENDING,
    (State.IN_FLIGHT, Event.RESCUE): State.PENDING,
    (State.IN_FLIGHT, Event.DIE): State.DEAD,
    (State.PENDING, Event.DIE): State.DEAD,
    (State.PENDING, Event.CANCEL): State.CANCELLED,
    (State.PENDING, Event.ANSWERED): State.DELIVERED,
    (State.DEAD, Event.CANCEL): State.CANCELLED,
    (State.DEAD, Event.REQUEUE): State.PENDING,
    (State.CANCELLED, Event.REQUEUE): State.PENDING,
    (State.DELIVERED, Event.REQUEUE): State.PENDING,
    (State.DEAD, Event.REPEAT): State.PENDING,
    (State.CANCELLED, Event.REPEAT): State.PENDING,
    (State.DELIVERED, Event.REPEAT): State.PENDING,
    (State.DELIVERED, Event.REDISPATCH): State.PENDING,
}


def from_states(event: Event) -> tuple[State, ...]:
    """Return every state in which `event` is allowed, for the guard of a compare-and-set."""
    return tuple(state for (state, known) in TRANSITIONS if known is event)


def pairs() -> frozenset[tuple[State, State]]:
    """Return every (from, to) that some event allows, for the trigger in the database."""
    return frozenset((before, after) for (before, _), after in TRANSITIONS.items())
