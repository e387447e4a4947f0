"""Delete the rows of all instances, deliveries and messages, for `mini-pacs reset-db`.

The history and the refusals are deleted, too. The schema, the destinations with their pauses, the rows of
living consumers, the totals of the counters and the times of the last sweep stay.
"""

from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session

_Q = load("reset")


class Kept(NamedTuple):
    """How many instances are kept, and how many deliveries are pending, in flight or dead."""

    instances: int
    unsettled: int


def kept(session: Session) -> Kept:
    """Count what `forget` would delete."""
    return session.only(Kept, _Q["kept"])


def forget(session: Session) -> None:
    """Delete every instance, delivery, message, fault, refusal and row of the history.

    The study numbers begin at 1 again.

    Call it in a transaction of its own. Processes may run meanwhile; what they commit afterwards is kept.

    Raises:
        DatabaseRefusedError: another transaction held a lock for 10 s, or it was a deadlock.
    """
    session.run(_Q["patience"])
    session.run(_Q["forget"])
    session.run(_Q["restart_numbers"])
    session.run(_Q["close_breakers"])
