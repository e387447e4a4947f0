"""Forgets everything that the gateway carried, as `mini-pacs reset-db` asks.

Stays: the schema and its migrations, the destinations with their pauses, the consumers that live, and when
the sweep last ran.
"""

from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session

_Q = load("reset")


class Kept(NamedTuple):
    """How many instances are kept, and how many deliveries are still owed or dead."""

    instances: int
    unsettled: int


def kept(session: Session) -> Kept:
    """Count what `forget` would delete."""
    return session.only(Kept, _Q["kept"])


def forget(session: Session) -> None:
    """No instance, delivery, message, fault nor rate is known; study numbers begin at 1.

    In a transaction of its own: processes may run meanwhile, and what they commit afterwards is kept.

    Raises:
        DatabaseRefusedError: somebody's transaction stood in the way for 10 s, or both waited for each other.
    """
    session.run(_Q["patience"])
    session.run(_Q["forget"])
    session.run(_Q["restart_numbers"])
    session.run(_Q["close_breakers"])
