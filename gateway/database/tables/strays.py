"""List instances: all, those in conflict, and results with the way their sources were found. Only reads."""

from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.domain.delivery import State
from gateway.domain.instance import Kind, Place
from gateway.domain.matching import Correlation

UNKNOWN_UIDS = 5
"""How many unknown UIDs of a result are read."""
WINDOW = timedelta(hours=1)
"""How long a conflict or an unmatched result is a finding about its sender."""
RECENT = 5000
"""Instances that are read to name senders."""

_Q = load("strays")


class After(NamedTuple):
    """The last row of a page."""

    received_at: datetime
    instance_id: int


class InstanceRow(NamedTuple):
    """An instance, and who sent it."""

    instance_id: int
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    kind: Kind
    sop_class_uid: str
    calling_ae_title: str
    remote_address: str
    received_at: datetime
    place: Place
    conflict: bool
    repeats: int


class ConflictRow(NamedTuple):
    """A SOP Instance UID that came with different bytes; `deliveries` counts those of all versions."""

    instance_id: int
    sop_instance_uid: str
    study_instance_uid: str
    kind: Kind
    versions: int
    senders: tuple[str, ...]
    first_at: datetime
    last_at: datetime
    repeats: int
    deliveries: dict[State, int] | None


class ConflictsOfSender(NamedTuple):
    """How many versions of how many SOP Instance UIDs a sender sent lately; `newest` is the last UID."""

    calling_ae_title: str
    remote_address: str
    uids: int
    versions: int
    first_at: datetime
    last_at: datetime
    newest: str


class UnmatchedOfSender(NamedTuple):
    """How many results without a source a sender sent lately, since its last one that matched."""

    calling_ae_title: str
    remote_address: str
    results: int
    first_at: datetime
    last_at: datetime


class ResultRow(NamedTuple):
    """A result, who sent it, and how its sources were found."""

    instance_id: int
    sop_instance_uid: str
    study_instance_uid: str
    calling_ae_title: str
    remote_address: str
    received_at: datetime
    correlation: Correlation | None
    late: bool
    sources: int
    unknown_uids: tuple[str, ...]
    study_is_kept: bool

    @property
    def reason(self) -> str:
        """Why it has this flag."""
        if self.correlation is Correlation.UNMATCHED:
            if self.unknown_uids:
                return f"it names instances that the edge does not keep, as {self.unknown_uids[0]}"
            if self.study_is_kept:
                return "it names no source; the originals of its study came after it"
            return "it names no source, and the edge keeps no original of its study"
        if self.correlation is Correlation.AMBIGUOUS:
            return "it names no source that is kept, and several results of its study were expected, or none"
        if self.late:
            return "it came after its deadline"
        return ""


def instances(session: Session, *, study: str | None, limit: int, after: After | None) -> list[InstanceRow]:
    """Return instances, of a study or all, the one that was received last first."""
    return session.rows(InstanceRow, _Q["instances"], study=study, limit=limit, **_position(after))


def conflicts(session: Session, *, limit: int, after: After | None) -> list[ConflictRow]:
    """Return the SOP Instance UIDs with several versions, the one that changed last first."""
    return session.rows(ConflictRow, _Q["conflicts"], limit=limit, **_position(after))


def results(
    session: Session, *, flagged: bool, correlation: Correlation | None, limit: int, after: After | None
) -> list[ResultRow]:
    """Return results, the one that was received last first; see strays.sql."""
    return session.rows(
        ResultRow,
        _Q["results"],
        flagged=flagged,
        correlation=None if correlation is None else correlation.value,
        uids=UNKNOWN_UIDS,
        limit=limit,
        **_position(after),
    )


def conflicts_of_senders(session: Session) -> list[ConflictsOfSender]:
    """Return the senders that used a SOP Instance UID again for other bytes within WINDOW."""
    return session.rows(ConflictsOfSender, _Q["conflicts_of_senders"], window=WINDOW, limit=RECENT)


def unmatched_of_senders(session: Session) -> list[UnmatchedOfSender]:
    """Return the senders whose last results within WINDOW match no instance."""
    return session.rows(UnmatchedOfSender, _Q["unmatched_of_senders"], window=WINDOW, limit=RECENT)


def _position(after: After | None) -> dict[str, object]:
    return {
        "received_at": None if after is None else after.received_at,
        "id": None if after is None else after.instance_id,
    }
