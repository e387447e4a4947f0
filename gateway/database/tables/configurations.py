"""The history of config.yaml, and the version that the processes are to take (see configurations.sql)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session

_Q = load("configurations")

PROPOSED, TAKEN, REFUSED = "proposed", "taken", "refused"
ABANDONED_AFTER = timedelta(seconds=30)
"""A proposed version of this age is left over from a command that was killed; a reload takes 10 s at most."""


class CurrentVersion(NamedTuple):
    """The version that is proposed now, else the last one that was taken."""

    version: int
    state: str
    digest: str


class Version(NamedTuple):
    """One version; `document` holds keys and values without secrets, `difference` what it changed."""

    version: int
    state: str
    digest: str
    document: str
    difference: tuple[str, ...]
    proposed_by: str
    proposed_at: datetime
    decided_at: datetime | None
    reason: str | None


def current(session: Session) -> CurrentVersion | None:
    """Return the version that the processes are to answer or to take; None before the first."""
    return session.row(CurrentVersion, _Q["current"], age=ABANDONED_AFTER)


def taken(session: Session) -> Version | None:
    """Return the version that runs; None before the first."""
    return session.row(Version, _Q["taken"])


def may_be_used(session: Session, digest: str) -> bool:
    """Tell whether a configuration is the version that runs, or none runs yet.

    No process knows the new destinations of a file that was edited and not loaded.
    """
    runs = taken(session)
    return runs is None or runs.digest == digest


def history(session: Session, *, limit: int) -> list[Version]:
    """Return the last versions, the newest first."""
    return session.rows(Version, _Q["history"], limit=limit)


def propose(
    session: Session, *, digest: str, document: str, difference: Sequence[str], by: str
) -> int | None:
    """Propose a version to all processes; return its number, or None if another one is proposed now."""
    session.run(_Q["refuse_old"], age=ABANDONED_AFTER, reason="the command that proposed it was ended")
    version: int | None = session.value(
        _Q["propose"], digest=digest, document=document, difference=list(difference), by=by
    )
    return version


def proposed(session: Session) -> Version | None:
    """Return the version that is proposed now."""
    return session.row(Version, _Q["proposed"])


def take(session: Session, version: int) -> bool:
    """Decide that every process takes a proposed version; return False if it is not proposed any more."""
    return session.one(_Q["take"], version=version) is not None


def refuse(session: Session, version: int, *, reason: str) -> None:
    """Decide that no process takes a proposed version."""
    session.run(_Q["refuse"], version=version, reason=reason)


def record(session: Session, *, digest: str, document: str, difference: Sequence[str], by: str) -> int | None:
    """Record a version that a process took at its start, in the caller's transaction.

    Return its number, or None if it is the last one.
    """
    session.one(_Q["lock_record"])
    version: int | None = session.value(
        _Q["record"], digest=digest, document=document, difference=list(difference), by=by
    )
    return version
