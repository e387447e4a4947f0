"""The counters: totals that never fall, and what was added to them in each minute of the last two days.

Code that has a transaction calls `add` in it, so the count is committed with the counted rows. All other code
counts in memory (gateway/database/counting.py), which is written every few seconds.

A transaction adds in a slot of its own, so it never waits for another that adds to the same counter. A total
is the sum over the slots.

The labels of a counter are a few words from fixed lists or from config.yaml. A UID, an attribute of a patient
or a text that a peer chose is never one of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import orjson

from gateway.database.queries import load
from gateway.database.session import Session

KEPT = timedelta(hours=48)
"""How long the minutes are kept."""
FORGET_AT_ONCE = 20_000

# What the actors count: messages of the queue, with the labels `queue` and `actor`.
MESSAGES_ARRIVED = "messages_arrived"
MESSAGES_DONE = "messages_done"
MESSAGES_FAILED = "messages_failed"
MESSAGE_SECONDS = "message_seconds"

_Q = load("counters")

Labels = Mapping[str, str]


class Increment(NamedTuple):
    """An amount to add to the counter of that name and these labels; `minute` None is the present one."""

    name: str
    labels: Labels
    amount: float = 1
    minute: datetime | None = None


class Total(NamedTuple):
    """What was added to a counter: ever, or within a window."""

    name: str
    labels: dict[str, str]
    total: float


class Minute(NamedTuple):
    """What was added to a counter in one minute."""

    minute: datetime
    labels: dict[str, str]
    amount: float


def add(session: Session, counts: Iterable[Increment]) -> None:
    """Add to the counters in the transaction of `session`; nothing is sent where there is nothing to add."""
    counted = [count for count in counts if count.amount]
    if counted:
        session.run(
            _Q["add"],
            names=[count.name for count in counted],
            labels=[orjson.dumps(dict(count.labels)).decode() for count in counted],
            amounts=[float(count.amount) for count in counted],
            minutes=[count.minute for count in counted],
        )


def totals(session: Session, names: Sequence[str] | None = None) -> list[Total]:
    """Return the totals of these counters, or of all."""
    return session.rows(Total, _Q["totals"], names=None if names is None else list(names))


def recent(session: Session, window: timedelta, names: Sequence[str]) -> list[Total]:
    """Return what was added to these counters in the minutes that began within `window`."""
    return session.rows(Total, _Q["recent"], window=window, names=list(names))


def by_minute(session: Session, name: str, window: timedelta) -> list[Minute]:
    """Return what was added to a counter in each minute, oldest first."""
    return session.rows(Minute, _Q["by_minute"], name=name, window=window)


def forget(session: Session) -> int:
    """Delete some of the minutes that are older than KEPT; return how many rows."""
    return session.run(_Q["forget"], kept=KEPT, limit=FORGET_AT_ONCE)
