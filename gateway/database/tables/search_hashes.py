"""The keyed hashes of accession numbers and patient IDs, with the study and series that they lead to."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables import counters
from gateway.database.tables.counters import Increment
from gateway.database.tables.evidence import SeriesFile

MAX_STUDIES = 100
SEARCHES = "searches"
MOST_SEARCHES = 30
"""Searches by hash within SEARCH_WINDOW, of all operators: few for a person, too few to try every number."""
SEARCH_WINDOW = timedelta(minutes=2)
"""This minute and the whole one before it, so that the limit does not start anew with each minute."""
FORGET_AT_ONCE = 10_000

_Q = load("search_hashes")


class Hashed(NamedTuple):
    """A hash, and the series whose data sets have the value."""

    hash: bytes
    study_instance_uid: str
    series_instance_uid: str


def add(session: Session, rows: Sequence[Hashed]) -> None:
    """Add hashes; those that are there already stay as they are."""
    if rows:
        session.run(
            _Q["add"],
            hashes=[row.hash for row in rows],
            studies=[row.study_instance_uid for row in rows],
            series=[row.series_instance_uid for row in rows],
        )


def find(session: Session, hashes: Sequence[bytes]) -> list[str] | None:
    """Return the studies with one of these hashes, the last one first; None: too many searches.

    Each call is counted.
    """
    found = counters.recent(session, SEARCH_WINDOW, [SEARCHES])
    if sum(one.total for one in found) >= MOST_SEARCHES:
        return None
    counters.add(session, [Increment(SEARCHES, {})])
    return session.values(_Q["find"], hashes=list(hashes), limit=MAX_STUDIES)


def series_after(session: Session, instance_id: int, *, limit: int) -> tuple[list[SeriesFile], int | None]:
    """Return a file of each series without a hash among the next instances, and the last id, if any."""
    parameters = {"after": instance_id, "limit": limit}
    last = session.value(_Q["last_id"], **parameters)
    return session.rows(SeriesFile, _Q["series_after"], **parameters), last


def forget(session: Session, study_instance_uids: Sequence[str]) -> int:
    """Delete the hashes of those studies of which nothing is left; return how many."""
    return session.run(_Q["forget"], studies=list(study_instance_uids)) if study_instance_uids else 0


def forget_all(session: Session) -> int:
    """Delete some hashes, because edge.search_key is not set any more; return how many."""
    return session.run(_Q["forget_all"], limit=FORGET_AT_ONCE)
