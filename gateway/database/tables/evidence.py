"""The kept rows of an instance, a series or a study, and the outcome of its deliveries. Only reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.history import PastStudy
from gateway.domain.delivery import State
from gateway.domain.instance import Kind, Place
from gateway.domain.routing import Route

PAGE = 2000
"""Instances that one statement reads while files are searched."""

_Q = load("evidence")


class KeptStudy(NamedTuple):
    """How many instances of one kind match in a kept study, and who sent them."""

    study_instance_uid: str
    kind: Kind
    instances: int
    first_at: datetime
    last_at: datetime
    senders: tuple[str, ...]
    conflicts: int
    repeats: int
    unforwarded: int
    unmatched: int


@dataclass(frozen=True, slots=True)
class Counted:
    """How many deliveries to a destination are in a state, and when the first and the last were settled."""

    kind: Kind
    route: Route
    destination: str
    state: State
    count: int
    first_at: datetime | None
    last_at: datetime | None


class Troubled(NamedTuple):
    """A delivery that is not delivered."""

    delivery_id: int
    sop_instance_uid: str
    kind: Kind
    route: Route
    destination: str | None
    state: State
    attempts: int
    owed_since: datetime
    next_attempt_at: datetime | None
    settled_by: str | None
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class RuledOut:
    """Instances that one version of the rules did not send to the PACS.

    `refused` is the PACS as a target (`Target.of`), `archives` got the instances instead, `rules` is the text
    of the version, empty if it is not known any more. `sop_instance_uid` is one of them.
    """

    kind: Kind
    count: int
    refused: tuple[str, ...]
    archives: tuple[str, ...]
    digest: str
    rules: str
    first_used: datetime | None
    sop_instance_uid: str


class SeriesFile(NamedTuple):
    """One file of a series."""

    instance_id: int
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    file_name: str
    place: Place
    received_at: datetime


class _End(NamedTuple):
    received_at: datetime
    instance_id: int


def studies(session: Session, uid: str) -> list[KeptStudy]:
    """Return the kept studies that contain the study, series or instance `uid`, for each kind of instance."""
    return session.rows(KeptStudy, _Q["studies"], uid=uid)


def deliveries(session: Session, uid: str) -> list[Counted]:
    """Count the deliveries of the study, series or instance `uid`."""
    return session.rows(Counted, _Q["deliveries"], uid=uid)


def troubled(session: Session, uid: str, *, limit: int) -> list[Troubled]:
    """Return the deliveries that are not delivered, the worst first."""
    return session.rows(Troubled, _Q["troubled"], uid=uid, limit=limit)


def ruled_out(session: Session, uid: str) -> list[RuledOut]:
    """Return the instances of `uid` that the rules did not send to the PACS, newest rules first."""
    return session.rows(RuledOut, _Q["ruled_out"], uid=uid)


def of_sender(
    session: Session, ae_title: str, *, begin: datetime, until: datetime, limit: int
) -> list[PastStudy]:
    """Return the kept studies that an AE title sent in that time, the last one first."""
    return session.rows(PastStudy, _Q["of_sender"], ae_title=ae_title, begin=begin, until=until, limit=limit)


def series_files(session: Session) -> Iterator[SeriesFile]:
    """Yield a file of each series, the last one received first; read a page when it is needed."""
    seen: set[str] = set()
    position: _End | None = None
    while True:
        parameters: dict[str, object] = {
            "received_at": None if position is None else position.received_at,
            "id": None if position is None else position.instance_id,
            "limit": PAGE,
        }
        for file in session.rows(SeriesFile, _Q["series_files"], **parameters):
            if file.series_instance_uid not in seen:
                seen.add(file.series_instance_uid)
                yield file
        position = session.row(_End, _Q["end_of_page"], **parameters)
        if position is None:
            return
