"""The states of one debt (an instance owed to a route) and the only transitions between them.

The table is the one home of this truth: SQL compares and sets with from-states computed from it,
and a trigger in the database refuses every pair that is not here (by test).
"""

from enum import StrEnum


class State(StrEnum):
    """What a committed delivery can be (G2)."""

    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What can happen to a delivery."""

    CLAIM = "claim"  # an actor takes it
    RECLAIM = "reclaim"  # the actor that had it is gone, or its lease is over
    DELIVER = "deliver"  # the peer has it
    RETRY = "retry"  # not now; later
    RESCUE = "rescue"  # the sweep found it in flight with nobody working on it
    DIE = "die"  # never, or not any more
    CANCEL = "cancel"  # an operator does not want it sent
    REQUEUE = "requeue"  # an operator wants it sent (again)
    REPEAT = "repeat"  # the sender sent the instance again
    REDISPATCH = "redispatch"  # the worker that got it owes its result for too long
    ANSWERED = "answered"  # the late result came before the redispatch was sent


TRANSITIONS: dict[tuple[State, Event], State] = {
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
    """Every state in which `event` may happen, for the guard of a compare-and-set."""
    return tuple(state for (state, known) in TRANSITIONS if known is event)


def pairs() -> frozenset[tuple[State, State]]:
    """Every (from, to) that some event allows, for the guard in the database."""
    return frozenset((before, after) for (before, _), after in TRANSITIONS.items())
