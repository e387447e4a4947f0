"""One study by series: what was received, where it is, what workers owe, and UIDs with several versions.

Only reads. The cost grows with the instances of the study, and little of it is returned.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.studies import Position
from gateway.domain.delivery import State
from gateway.domain.instance import Kind
from gateway.domain.routing import Route

VERSIONED_UIDS = 20
"""SOP Instance UIDs whose versions are shown."""

_Q = load("study_series")


class Series(NamedTuple):
    """The instances of one kind in a series. `sender` is one of `senders` AE titles."""

    series_instance_uid: str
    kind: Kind
    instances: int
    first_received_at: datetime
    last_received_at: datetime
    sender: str
    senders: int
    conflicts: int
    versioned: int
    repeats: int
    unforwarded: int
    late: int
    unmatched: int


@dataclass(frozen=True, slots=True)
class SeriesDeliveries:
    """How many deliveries of a series to one target are in one state, and when."""

    series_instance_uid: str
    kind: Kind
    route: Route
    target: str
    state: State
    count: int
    owed_since: datetime
    first_settled_at: datetime | None
    last_settled_at: datetime | None
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class SeriesAnswers:
    """How many deliveries of a series a worker has answered, owes, or did not answer in time.

    `state` is answered, owed or overdue.
    """

    series_instance_uid: str
    worker: str
    state: str
    count: int
    first_asked_at: datetime
    last_asked_at: datetime
    first_arrived_at: datetime | None
    last_arrived_at: datetime | None
    last_due_at: datetime


class KeptVersion(NamedTuple):
    """One content of a SOP Instance UID that was received with several. `number` is its place, from 1."""

    instance_id: int
    sop_instance_uid: str
    study_instance_uid: str
    calling_ae_title: str
    remote_address: str
    received_at: datetime
    conflict: bool
    digest: str
    number: int


class _Place(NamedTuple):
    instance_id: int
    received_at: datetime


class StudySeries(NamedTuple):
    """All series of a study."""

    series: tuple[Series, ...]
    deliveries: tuple[SeriesDeliveries, ...]
    answers: tuple[SeriesAnswers, ...]

    @property
    def instances(self) -> int:
        """How many instances are kept, results too."""
        return sum(one.instances for one in self.series)


def of_study(session: Session, study_instance_uid: str) -> StudySeries:
    """Return the series of a study by reception; none where nothing of it is kept."""
    return StudySeries(
        tuple(session.rows(Series, _Q["series"], study=study_instance_uid)),
        tuple(session.rows(SeriesDeliveries, _Q["deliveries"], study=study_instance_uid)),
        tuple(session.rows(SeriesAnswers, _Q["answers"], study=study_instance_uid)),
    )


def instances(
    session: Session,
    study_instance_uid: str,
    *,
    series: str | None = None,
    limit: int,
    after: Position | None = None,
) -> tuple[list[int], Position | None]:
    """Return the ids of the next instances by reception, and where the next page begins (None: the end).

    Without a series, results that belong to an original are left out: its timeline shows them.
    """
    found = session.rows(
        _Place,
        _Q["instances"],
        study=study_instance_uid,
        series=series,
        limit=limit + 1,
        received_at=None if after is None else after.received_at,
        id=None if after is None else after.instance_id,
    )
    shown = found[:limit]
    following = Position(shown[-1].received_at, shown[-1].instance_id) if len(found) > limit else None
    return [one.instance_id for one in shown], following


def versions(session: Session, study_instance_uid: str) -> list[tuple[str, list[KeptVersion]]]:
    """Return the SOP Instance UIDs with several contents, each with its versions by reception."""
    rows = session.rows(KeptVersion, _Q["versions"], study=study_instance_uid, limit=VERSIONED_UIDS)
    return [(uid, [row for row in rows if row.sop_instance_uid == uid]) for uid in _distinct(rows)]


def _distinct(rows: Iterable[KeptVersion]) -> list[str]:
    return list(dict.fromkeys(row.sop_instance_uid for row in rows))
