"""The screen Studies: a page of studies with how far each has come."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.database.session import Session
from gateway.database.tables import study_search
from gateway.database.tables.studies import Position
from gateway.database.tables.study_search import StudyLine, WantedStudies
from gateway.domain.delivery import State
from gateway.domain.routing import Route, Target
from gateway.domain.unit import UnitState

PAGE = 25

PERIODS: dict[str, tuple[str, timedelta | None]] = {
    "": ("any time", None),
    "15min": ("last 15 minutes", timedelta(minutes=15)),
    "1h": ("last hour", timedelta(hours=1)),
    "6h": ("last 6 hours", timedelta(hours=6)),
    "1d": ("last day", timedelta(days=1)),
    "7d": ("last 7 days", timedelta(days=7)),
}
STATES: dict[str, tuple[str, tuple[State, ...]]] = {
    "": ("any state", ()),
    "waiting": ("something waits", study_search.WAITING),
    "dead": ("something is dead", (State.DEAD,)),
    "cancelled": ("something is cancelled", (State.CANCELLED,)),
}


@dataclass(frozen=True, slots=True)
class StudyBar:
    """One of the bars of a study: a label, what is done, and what is not, of `total`."""

    label: str
    total: int
    done: int
    waiting: int = 0
    moving: int = 0
    dead: int = 0
    cancelled: int = 0
    done_word: str = "delivered"

    @property
    def kind(self) -> str:
        """The kind of its badge: the worst of its states."""
        if self.dead:
            return "bad"
        if self.waiting or self.moving:
            return "wait"
        return "off" if self.cancelled else "ok"

    @property
    def bar(self) -> list[tuple[str, int, str]]:
        """The parts of the bar: kind, number and word."""
        return [
            ("ok", self.done, self.done_word),
            ("move", self.moving, "in flight"),
            ("wait", self.waiting, "waiting"),
            ("bad", self.dead, "dead"),
            ("off", self.cancelled, "cancelled"),
        ]


@dataclass(frozen=True, slots=True)
class Shown:
    """A study as a line of the screen."""

    line: StudyLine
    parts: tuple[StudyBar, ...]

    @property
    def kind(self) -> str:
        """The worst of its bars."""
        kinds = {part.kind for part in self.parts}
        return next((kind for kind in ("bad", "wait", "off") if kind in kinds), "ok")


@dataclass(frozen=True, slots=True)
class ListedStudies:
    """What the screen shows."""

    studies: tuple[Shown, ...]
    following: Position | None
    looked_to: datetime | None


def wanted(
    period: str, state: str, sender: str, *, begin: datetime | None, until: datetime | None
) -> WantedStudies:
    """Return what the filters of the screen select; a value that is not offered selects all."""
    lasting = PERIODS.get(period, PERIODS[""])[1]
    if begin is None and lasting is not None:
        # Rounded, so that all who look at the same second ask the same.
        begin = datetime.now(UTC).replace(microsecond=0) - lasting
    return WantedStudies(begin, until, sender or None, STATES.get(state, STATES[""])[1])


def listed(session: Session, looked_for: WantedStudies, after: Position | None) -> ListedStudies:
    """Read a page of studies, newest first."""
    found = study_search.find(session, looked_for, last=PAGE, after=after)
    return ListedStudies(
        tuple(shown(study_search.lines(session, found.study_instance_uids))),
        found.following,
        found.looked_to,
    )


def those(session: Session, study_instance_uids: Iterable[str]) -> ListedStudies:
    """Read these studies, in their order."""
    return ListedStudies(tuple(shown(study_search.lines(session, study_instance_uids))), None, None)


def shown(lines: Iterable[StudyLine]) -> list[Shown]:
    """Return the lines with their bars: each archive, what was asked of each application, and its results."""
    return [Shown(line, tuple(_parts(line))) for line in lines]


def _parts(line: StudyLine) -> Iterable[StudyBar]:
    targets = sorted(line.originals, key=lambda one: (_PLACE[one.route], one.name))
    for target in targets:
        yield _part(target, line.originals[target])
    yield from _answers(line)
    for target in sorted(line.results, key=lambda one: (_PLACE[one.route], one.name)):
        yield _part(target, line.results[target], of_results=True)


_PLACE = {Route.PACS: 0, Route.ARCHIVES: 1, Route.WORKERS: 2}


def _part(target: Target, counts: dict[State, int], *, of_results: bool = False) -> StudyBar:
    name = target.name if target.route.is_archive else f"asked {target.name}"
    return StudyBar(
        label=f"results at {name}" if of_results else name,
        total=sum(counts.values()),
        done=counts.get(State.DELIVERED, 0),
        waiting=counts.get(State.PENDING, 0) + counts.get(State.COLLECTING, 0),
        moving=counts.get(State.IN_FLIGHT, 0),
        dead=counts.get(State.DEAD, 0),
        cancelled=counts.get(State.CANCELLED, 0),
        done_word="delivered" if target.route.is_archive else "asked",
    )


def _answers(line: StudyLine) -> Iterable[StudyBar]:
    total = sum(line.answers.values())
    if total:
        answered, owed = line.answers.get("answered", 0), line.answers.get("owed", 0)
        overdue = line.answers.get("overdue", 0)
        yield StudyBar("results", total, answered, waiting=owed, dead=overdue, done_word="answered")
    if line.units:
        total = sum(line.units.values())
        done = line.units.get(UnitState.ANSWERED, 0)
        bad = sum(line.units.get(state, 0) for state in (UnitState.DEAD, UnitState.TIMED_OUT))
        off = sum(line.units.get(state, 0) for state in (UnitState.CANCELLED, UnitState.SUPERSEDED))
        moving = line.units.get(UnitState.SENDING, 0)
        yield StudyBar(
            "units",
            total,
            done,
            waiting=total - done - bad - off - moving,
            moving=moving,
            dead=bad,
            cancelled=off,
            done_word="answered",
        )
