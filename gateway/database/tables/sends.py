"""The sends that are under way, and how soon each peer answered lately."""

from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session

LIMIT = 500
"""How many sends of a route are read; all actor processes together have fewer threads."""
RECENT_ATTEMPTS = 2000

_Q = load("sends")


class Send(NamedTuple):
    """An instance that is being sent; `since` is when it was claimed, or when its claim was renewed last."""

    ae_title: str
    since: datetime
    bytes: int


class Answers(NamedTuple):
    """When a peer accepted an instance last, and the time that 99 of 100 recent attempts took."""

    ae_title: str
    last_at: datetime
    usual_seconds: float


def under_way(session: Session, *, lease: timedelta) -> tuple[Send, ...]:
    """Return the sends of living processes, the oldest first; `lease` is that of their claims."""
    return tuple(session.rows(Send, _Q["under_way"], lease=lease, limit=LIMIT))


def answers(session: Session) -> tuple[Answers, ...]:
    """Return the answers of each peer that accepted something lately."""
    return tuple(session.rows(Answers, _Q["answers"], attempts=RECENT_ATTEMPTS))
