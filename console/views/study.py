"""The screen Study: the verdict, the timeline as a picture and as a table, problems, versions, units."""

from dataclasses import dataclass
from datetime import UTC, datetime

from console.views.instance_row import instance_row
from console.views.picture import TimelinePicture, draw
from console.views.sentence import marked, parts
from console.views.series_rows import series_rows
from gateway.database.session import Session
from gateway.database.tables import delivery_search, shown_units, study_series, timeline
from gateway.database.tables.delivery_search import ReasonGroup, WantedDeliveries
from gateway.database.tables.shown_units import UnitRow
from gateway.database.tables.studies import Position
from gateway.database.tables.study_series import KeptVersion, StudySeries
from gateway.domain.delivery import State
from gateway.domain.instance import Kind
from gateway.domain.timeline import InstanceTimeline
from gateway.domain.unit import UnitState
from gateway.search import evidence, verdict
from gateway.search.verdict import Verdict
from gateway.spool.envelope import Envelope

PAGE = 40
"""Instances of a page, and rows of a picture."""
TROUBLED = 10


@dataclass(frozen=True, slots=True)
class Totals:
    """How many deliveries of a study are in each state: for the buttons, and to see a change meanwhile."""

    states: dict[State, int]

    def of(self, *states: State) -> int:
        """Return how many are in these states."""
        return sum(self.states.get(state, 0) for state in states)


@dataclass(frozen=True, slots=True)
class StudyShown:
    """What the screen shows. `following` is where the next page of instances begins."""

    uid: str
    verdict: Verdict
    was_known: bool
    """Whether anything is known of it: kept, refused, not registered yet, or deleted."""
    found: StudySeries
    totals: Totals
    picture: TimelinePicture
    series: str | None
    by_series: bool
    instances: tuple[InstanceTimeline, ...]
    following: Position | None
    problems: tuple[ReasonGroup, ...]
    versions: tuple[tuple[str, list[KeptVersion]], ...]
    units: tuple[UnitRow, ...]

    @property
    def sentence(self) -> list[str | datetime]:
        """The verdict as texts and times."""
        return parts(f"{self.verdict.text[:1].upper()}{self.verdict.text[1:]}.")

    @property
    def is_kept(self) -> bool:
        """Whether an instance of it is kept; else only the verdict says what was."""
        return bool(self.found.series)

    @property
    def originals(self) -> int:
        """How many originals are kept."""
        return sum(one.instances for one in self.found.series if one.kind is Kind.ORIGINAL)

    @property
    def results(self) -> int:
        """How many results are kept."""
        return sum(one.instances for one in self.found.series if one.kind is Kind.RESULT)

    @property
    def senders(self) -> list[str]:
        """The AE titles that sent originals, or results if there is nothing else; one of each series."""
        originals = [one for one in self.found.series if one.kind is Kind.ORIGINAL]
        return sorted({one.sender for one in originals or self.found.series})

    @property
    def collecting(self) -> list[UnitRow]:
        """The units that wait for the rest of their instances: an operator may complete them."""
        return [unit for unit in self.units if unit.state is UnitState.COLLECTING]


@dataclass(frozen=True, slots=True)
class Asked:
    """What part of a study the address of the page names."""

    uid: str
    series: str | None = None
    after: Position | None = None
    zoom: str | None = None


def study(
    session: Session, asked: Asked, *, history_days: float, envelopes: tuple[Envelope, ...] = ()
) -> StudyShown:
    """Read the content of the screen. If nothing of the study is kept, there is only the verdict."""
    known = evidence.of_uid(session, asked.uid, limit=TROUBLED, envelopes=envelopes)
    found = study_series.of_study(session, asked.uid)
    ids, following = study_series.instances(
        session, asked.uid, series=asked.series, limit=PAGE, after=asked.after
    )
    timelines = timeline.of_instances(session, ids)
    by_series = asked.series is None and (following is not None or asked.after is not None)
    return StudyShown(
        uid=asked.uid,
        verdict=verdict.of_uid(known, history_days=history_days, clock=marked),
        was_known=known.is_known,
        found=found,
        totals=_totals(found),
        picture=_picture(found, timelines, asked.zoom, by_series=by_series),
        series=asked.series,
        by_series=by_series,
        instances=tuple(timelines),
        following=following,
        problems=tuple(_problems(session, asked.uid, found)),
        versions=tuple(_versions(session, asked.uid, found)),
        units=tuple(shown_units.of_studies(session, [asked.uid])),
    )


def _totals(found: StudySeries) -> Totals:
    states: dict[State, int] = {}
    for one in found.deliveries:
        states[one.state] = states.get(one.state, 0) + one.count
    return Totals(states)


def _picture(
    found: StudySeries, timelines: list[InstanceTimeline], zoom: str | None, *, by_series: bool
) -> TimelinePicture:
    now = datetime.now(UTC)
    first = min((one.first_received_at for one in found.series), default=now)
    rows = series_rows(found, now=now) if by_series else [instance_row(one, now=now) for one in timelines]
    return draw(rows, first=first, now=now, zoom=zoom)


def _problems(session: Session, uid: str, found: StudySeries) -> list[ReasonGroup]:
    if all(one.state is State.DELIVERED for one in found.deliveries):
        return []
    return delivery_search.groups(session, WantedDeliveries(study=uid))


def _versions(session: Session, uid: str, found: StudySeries) -> list[tuple[str, list[KeptVersion]]]:
    if not any(one.versioned for one in found.series):
        return []
    return study_series.versions(session, uid)
