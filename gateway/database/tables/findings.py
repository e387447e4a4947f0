"""The open findings, since when they are open, and whether a webhook or a mail reported them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session

KEPT = timedelta(days=90)
"""How long a finding is kept after it closed."""
TOLD_AT_ONCE = 50
"""How many findings one message contains."""

_Q = load("findings")


class FindingRow(NamedTuple):
    """One time that something was wrong; open while `closed_at` is None."""

    id: int
    key: str
    severity: str
    what: str
    means: str
    remedy: str
    holds_back: str
    opened_at: datetime
    closed_at: datetime | None


class SeenFinding(NamedTuple):
    """A finding as the last examination saw it."""

    key: str
    severity: str
    what: str
    means: str
    remedy: str
    holds_back: str
    since: datetime | None


class FailingEndpoint(NamedTuple):
    """A webhook or mail server that did not take the last messages, `failures` in a row."""

    endpoint: str
    failing_since: datetime
    last_error: str
    failures: int


class Recorded(NamedTuple):
    """How many findings opened and closed."""

    opened: int
    closed: int


def record(session: Session, seen: Sequence[SeenFinding]) -> Recorded:
    """Open the new findings, refresh those that were seen again, close the others."""
    recorded = session.only(
        Recorded,
        _Q["record"],
        keys=[one.key for one in seen],
        severities=[one.severity for one in seen],
        whats=[one.what for one in seen],
        means=[one.means for one in seen],
        remedies=[one.remedy for one in seen],
        holds=[one.holds_back for one in seen],
        since=[one.since for one in seen],
    )
    session.run(_Q["forget"], kept=KEPT)
    return recorded


def open_findings(session: Session) -> list[FindingRow]:
    """Return the open findings, the oldest first."""
    return session.rows(FindingRow, _Q["open"])


def untold(session: Session, *, grace: timedelta, notes: bool) -> list[FindingRow]:
    """Return the findings for a message: those that have lasted for `grace`, and told ones that closed."""
    return session.rows(FindingRow, _Q["untold"], grace=grace, notes=notes, limit=TOLD_AT_ONCE)


def mark_told(session: Session, ids: Sequence[int]) -> None:
    """Record that these findings were told."""
    session.run(_Q["told"], ids=list(ids))


def note_endpoint(session: Session, endpoint: str, error: str) -> None:
    """Record what an endpoint did with a message; an empty `error` says that it took it."""
    session.run(_Q["note_endpoint"], endpoint=endpoint, error=error)


def failing_endpoints(session: Session) -> list[FailingEndpoint]:
    """Return the endpoints that did not take the last message."""
    return session.rows(FailingEndpoint, _Q["failing_endpoints"])


def seconds_since_told(session: Session) -> float | None:
    """Return how long ago the last message was; None if there was none."""
    seconds: float | None = session.value(_Q["last_told"])
    return seconds


def has_message(session: Session, *, queue: str, actor: str) -> bool:
    """Tell whether a message of that actor waits or runs already."""
    return bool(session.value(_Q["has_message"], queue=queue, actor=actor))
