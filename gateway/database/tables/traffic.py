"""Who sent how much over the last minute, and the counters of the last two days in steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.domain.instance import Kind

WINDOW = timedelta(minutes=1)
RECENT = 20_000
POINTS_MOST = 50_000
_Q = load("traffic")


@dataclass(frozen=True, slots=True)
class Sender:
    """How many instances of a kind an AE title sent; `covered_seconds` is over how long they were counted."""

    calling_ae_title: str
    kind: Kind
    count: int
    covered_seconds: float

    @property
    def per_minute(self) -> float:
        """The rate."""
        return 60 * self.count / max(self.covered_seconds, 1.0)


class CounterStep(NamedTuple):
    """What was added to a counter within a step that began `at`, in seconds since 1970."""

    at: float
    name: str
    label: str
    amount: float


def senders(session: Session) -> list[Sender]:
    """Return who sent instances within WINDOW."""
    return session.rows(Sender, _Q["senders"], window=WINDOW, limit=RECENT)


def history(
    session: Session,
    names: Sequence[str],
    *,
    window: timedelta,
    step: timedelta,
    label: str = "",
    outcome: str | None = None,
) -> list[CounterStep]:
    """Return what was added to counters in each step, by the value of a label, oldest first."""
    return session.rows(
        CounterStep,
        _Q["history"],
        names=list(names),
        window=window,
        step=step,
        label=label,
        outcome=outcome,
        limit=POINTS_MOST,
    )
