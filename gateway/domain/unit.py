"""The states of a unit (a series or a study that an application gets whole), and what may follow on each.

    collecting   its instances arrive
    complete     nothing more is expected; it waits for a worker, for the first time or again
    sending      one process sends it whole to one worker
    sent         the worker has it and owes its result, until a deadline
    answered     a result came
    timed_out    no result came, and no other worker is asked
    superseded   a later generation holds all of its instances
    dead         given up: the worker refuses all of it, or each attempt broke
    cancelled    each of its deliveries was cancelled

Instances that arrive after a unit was sent form a new unit: the next *generation* of the same series or
study.
"""

from enum import StrEnum


class UnitState(StrEnum):
    """The states of a unit."""

    COLLECTING = "collecting"
    COMPLETE = "complete"
    SENDING = "sending"
    SENT = "sent"
    ANSWERED = "answered"
    TIMED_OUT = "timed_out"
    SUPERSEDED = "superseded"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def is_settled(self) -> bool:
        """Whether nothing more happens to it."""
        return self not in {UnitState.COLLECTING, UnitState.COMPLETE, UnitState.SENDING, UnitState.SENT}


AFTER: dict[UnitState, frozenset[UnitState]] = {
    # after its quiet time, at its longest wait, or because an operator says so
    UnitState.COLLECTING: frozenset({UnitState.COMPLETE}),
    # answered: the late result of an earlier worker came before it was sent again
    UnitState.COMPLETE: frozenset(
        {UnitState.SENDING, UnitState.ANSWERED, UnitState.SUPERSEDED, UnitState.CANCELLED}
    ),
    # complete: the worker went away, or the process died and no worker is free
    UnitState.SENDING: frozenset(
        {UnitState.SENT, UnitState.ANSWERED, UnitState.COMPLETE, UnitState.DEAD, UnitState.CANCELLED}
    ),
    # complete: its result is overdue, another worker is asked
    UnitState.SENT: frozenset(
        {UnitState.ANSWERED, UnitState.COMPLETE, UnitState.TIMED_OUT, UnitState.SUPERSEDED}
    ),
    UnitState.TIMED_OUT: frozenset({UnitState.ANSWERED, UnitState.SUPERSEDED}),
    UnitState.ANSWERED: frozenset(),
    UnitState.SUPERSEDED: frozenset(),
    UnitState.DEAD: frozenset(),
    UnitState.CANCELLED: frozenset(),
}
"""The only transitions; a trigger in the database refuses every other one."""


def transitions() -> frozenset[tuple[UnitState, UnitState]]:
    """Return every (from, to) that is allowed."""
    return frozenset((before, after) for before, all_after in AFTER.items() for after in all_after)
