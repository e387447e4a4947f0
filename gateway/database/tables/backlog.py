"""How many deliveries waited for each target, minute by minute, over the last two days."""

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session

KEPT = timedelta(hours=48)
POINTS_MOST = 50_000
_Q = load("backlog")


class Waiting(NamedTuple):
    """How many deliveries to a target wait, and how many are dead."""

    waiting: int
    dead: int


class Point(NamedTuple):
    """How many waited for a target at a time, in seconds since 1970."""

    at: float
    target: str
    waiting: int


def note(session: Session, counts: Mapping[str, Waiting]) -> None:
    """Write the counts of this minute, and delete what is older than KEPT."""
    session.run(
        _Q["note"],
        targets=list(counts),
        waiting=[one.waiting for one in counts.values()],
        dead=[one.dead for one in counts.values()],
    )
    session.run(_Q["forget"], kept=KEPT)


def history(session: Session, *, window: timedelta, step: timedelta) -> list[Point]:
    """Return the counts within `window`, the highest of each `step`, oldest first."""
    return session.rows(Point, _Q["history"], window=window, step=step, limit=POINTS_MOST)
