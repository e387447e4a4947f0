"""Actions of the console that run in the background, in slices: who began them, and how many are done.

A slice adds to `done` in the transaction that changes its rows, so the figure is right after any crash.

    running -> done      every slice was committed
    running -> failed    a slice raised an error; `note` says which
    running -> stopped   the console ended before; the next one says how many were done
"""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.activity import TEXT_LENGTH, Operator, printable

_Q = load("console")


class ActionState(StrEnum):
    """Whether an action runs, and how it ended."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


class LongAction(NamedTuple):
    """An action in the background; `total` is the count that was shown before it was confirmed."""

    id: int
    who: str
    address: str
    verb: str
    target: str
    total: int
    done: int
    state: ActionState
    note: str
    began_at: datetime
    changed_at: datetime


def begin(session: Session, operator: Operator, verb: str, target: str, total: int) -> int:
    """Record that an action begins; return its id."""
    return int(
        session.value(
            _Q["begin_action"],
            who=operator.name,
            address=operator.address,
            verb=verb,
            target=printable(target, TEXT_LENGTH),
            total=total,
        )
    )


def add(session: Session, action_id: int, count: int) -> None:
    """Add to the number that is done, in the transaction that did them."""
    session.run(_Q["add_to_action"], id=action_id, count=count)


def end(session: Session, action_id: int, state: ActionState, note: str = "") -> None:
    """Record how an action ended."""
    session.run(_Q["end_action"], id=action_id, state=state.value, note=printable(note, TEXT_LENGTH))


def stop_running(session: Session, note: str) -> list[LongAction]:
    """End the actions of a console that has ended; return them."""
    return session.rows(LongAction, _Q["stop_running"], note=note)


def latest(session: Session, *, limit: int) -> list[LongAction]:
    """Return the newest actions."""
    return session.rows(LongAction, _Q["actions"], id=None, limit=limit)


def get(session: Session, action_id: int) -> LongAction | None:
    """Return an action; None if there is none with that id."""
    return session.row(LongAction, _Q["actions"], id=action_id, limit=1)
