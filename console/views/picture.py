"""The timeline of a study as a picture: a row for each instance or series, with marks in three lanes.

    lane 0    received, and sent to each archive
    lane 1    sent to applications, and the results that they owe
    lane 2    results received, and sent to each archive

Only numbers and words are made here; console/templates/_timeline.html draws them as SVG. Places are in
percent of the width, so that a picture fits every screen without a script and without inline styles.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from console.views.axis import Axis, axis
from gateway.database.tables.study_series import Series, SeriesAnswers, SeriesDeliveries, StudySeries
from gateway.domain.delivery import State
from gateway.domain.instance import Kind
from gateway.domain.routing import Route, Target
from gateway.domain.timeline import InstanceTimeline, Step, StepName
from gateway.times import span

ARCHIVES, APPLICATIONS, RESULTS = 0, 1, 2
THINNEST = 0.5
"""Percent of the width that a bar has at least."""

LANE = {
    StepName.RECEIVED: ARCHIVES,
    StepName.PACS: ARCHIVES,
    StepName.ARCHIVE: ARCHIVES,
    StepName.WORKER_ASKED: APPLICATIONS,
    StepName.WORKER: APPLICATIONS,
    StepName.RESULT: APPLICATIONS,
    StepName.RESULT_AT_PACS: RESULTS,
    StepName.RESULT_AT_ARCHIVE: RESULTS,
}
KIND_OF_STATE = {
    State.DELIVERED: "ok",
    State.COLLECTING: "wait",
    State.PENDING: "wait",
    State.IN_FLIGHT: "move",
    State.DEAD: "bad",
    State.CANCELLED: "off",
}
_LASTING = {State.COLLECTING.value: "wait", State.PENDING.value: "wait", "in flight": "move", "owed": "wait"}
"""Outcomes that go on until now."""
_ENDS = {State.DEAD.value: "bad", State.CANCELLED.value: "off"}


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """Something that lasts from `begin` to `end`, or happens at `end`. `shape`: bar, line, point or end."""

    lane: int
    kind: str
    shape: str
    begin: datetime
    end: datetime
    words: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An event with its place in percent."""

    lane: int
    kind: str
    shape: str
    x: float
    width: float
    words: str


@dataclass(frozen=True, slots=True)
class Word:
    """A short text beside a row; `kind` is that of a badge."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the picture: an instance, or a series with `count` instances."""

    uid: str
    kind: Kind
    count: int
    events: tuple[TimelineEvent, ...]
    words: tuple[Word, ...]
    instance_id: int | None = None
    sender: str = ""

    @property
    def spoken(self) -> str:
        """Return what the row shows, for people who cannot see it."""
        return "; ".join(word.text for word in self.words) or "received"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A row with the marks that are within the axis."""

    row: Row
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class TimelinePicture:
    """The rows with their axis."""

    axis: Axis
    rows: tuple[Drawn, ...]


def draw(rows: Sequence[Row], *, first: datetime, now: datetime, zoom: str | None) -> TimelinePicture:
    """Return the rows drawn from `first` on, the first reception of the study."""
    ends = [event.end for row in rows for event in row.events]
    along = axis(first, max(ends, default=now), zoom)
    return TimelinePicture(along, tuple(Drawn(row, tuple(_marks(row.events, along))) for row in rows))


def _marks(events: Iterable[TimelineEvent], along: Axis) -> Iterator[Mark]:
    for event in events:
        begin, end = along.x(event.begin), along.x(event.end)
        if end < 0 or begin > 100:  # noqa: PLR2004  percent
            continue
        if event.shape in {"point", "end"}:
            if end <= 100:  # noqa: PLR2004
                yield Mark(event.lane, event.kind, event.shape, end, 0, event.words)
            continue
        begin, end = max(begin, 0), min(end, 100)
        width = max(end - begin, THINNEST)
        yield Mark(event.lane, event.kind, event.shape, min(begin, 100 - width), width, event.words)


# ---- an instance ---------------------------------------------------------------------------------


def instance_row(timeline: InstanceTimeline, *, now: datetime) -> Row:
    """Return the row of an instance; events that have not ended yet last until `now`."""
    return Row(
        uid=timeline.sop_instance_uid,
        kind=timeline.kind,
        count=1,
        events=tuple(_events_of(timeline.steps, now)),
        words=words_of(timeline),
        instance_id=timeline.instance_id,
    )


def _events_of(steps: Sequence[Step], now: datetime) -> Iterator[TimelineEvent]:
    happened = [step for step in steps if step.at is not None and step.outcome not in _LASTING]
    times = [(step, step.at) for step in happened if step.at is not None]
    first = min((at for _, at in times), default=now)
    result = min((at for step, at in times if step.name is StepName.RESULT and step.done), default=first)
    since = {ARCHIVES: first, APPLICATIONS: first, RESULTS: result}
    marks = [event for step in steps for event in _events_of_step(step, since, now)]
    for lane, begin in since.items():
        ends = [event.end for event in marks if event.lane == lane]
        if ends and max(ends) > begin:
            yield TimelineEvent(lane, "way", "line", begin, max(ends), "")
    yield from marks


def _events_of_step(step: Step, since: dict[int, datetime], now: datetime) -> Iterator[TimelineEvent]:
    lane, words = LANE[step.name], _sentence(step)
    if step.outcome in _LASTING:
        yield TimelineEvent(lane, _LASTING[step.outcome], "bar", min(since[lane], now), now, words)
        return
    if step.at is None:
        return
    if step.outcome in _ENDS:
        yield TimelineEvent(lane, _ENDS[step.outcome], "end", step.at, step.at, words)
        return
    kind = _kind(step)
    if step.seconds is None:
        yield TimelineEvent(lane, kind, "point", step.at, step.at, words)
    else:
        yield TimelineEvent(lane, kind, "bar", step.at - timedelta(seconds=step.seconds), step.at, words)


def _kind(step: Step) -> str:
    if not step.done:
        return "off" if step.name is StepName.RECEIVED else "bad"
    match step.name:
        case StepName.RECEIVED:
            return "received"
        case StepName.WORKER_ASKED:
            return "asked"
        case StepName.RESULT:
            return "answer"
    return "ok"


def _sentence(step: Step) -> str:
    took = "" if step.seconds is None else f", {span(step.seconds)}"
    by = f" {step.by}" if step.by else ""
    error = f": {step.error}" if step.error else ""
    return f"{step.name.value}{by}: {step.outcome}{took}{error}"


def words_of(timeline: InstanceTimeline) -> tuple[Word, ...]:
    """Return the last outcome at each destination, in the order of `StepName`."""
    return tuple(_words_of(timeline.steps))


def _words_of(steps: Sequence[Step]) -> Iterator[Word]:
    last: dict[tuple[StepName, str], Step] = {}
    for step in steps:
        if step.name in {StepName.RECEIVED, StepName.WORKER_ASKED}:
            continue
        by = step.by or "" if step.name in {StepName.ARCHIVE, StepName.RESULT_AT_ARCHIVE} else ""
        last[step.name, by] = step
    order = list(StepName)
    for (name, by), step in sorted(last.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        what = f"{name.value} {by}".strip()
        kind = "ok" if step.done else _LASTING.get(step.outcome) or _ENDS.get(step.outcome, "bad")
        yield Word(kind, what if step.done else f"{what}: {step.outcome.replace('_', ' ')}")


# ---- a series ------------------------------------------------------------------------------------


def series_rows(found: StudySeries, *, now: datetime) -> list[Row]:
    """Return a row for each series and kind of instance."""
    return [
        Row(
            uid=one.series_instance_uid,
            kind=one.kind,
            count=one.instances,
            events=tuple(_events_of_series(one, found, now)),
            words=tuple(_words_of_series(one, found)),
            sender=one.sender if one.senders == 1 else f"{one.sender} and {one.senders - 1} more",
        )
        for one in found.series
    ]


def _deliveries_of(series: Series, found: StudySeries) -> list[SeriesDeliveries]:
    return [
        one
        for one in found.deliveries
        if one.series_instance_uid == series.series_instance_uid and one.kind is series.kind
    ]


def _answers_of(series: Series, found: StudySeries) -> list[SeriesAnswers]:
    if series.kind is Kind.RESULT:
        return []
    return [one for one in found.answers if one.series_instance_uid == series.series_instance_uid]


def _events_of_series(series: Series, found: StudySeries, now: datetime) -> Iterator[TimelineEvent]:
    own = RESULTS if series.kind is Kind.RESULT else ARCHIVES
    received = f"{series.instances} received from {series.sender}"
    marks = [
        TimelineEvent(own, "received", "bar", series.first_received_at, series.last_received_at, received),
        *(
            event
            for one in _deliveries_of(series, found)
            for event in _events_of_deliveries(one, own, series.first_received_at, now)
        ),
        *(event for one in _answers_of(series, found) for event in _events_of_answers(one, now)),
    ]
    for lane in (ARCHIVES, APPLICATIONS, RESULTS):
        ends = [event.end for event in marks if event.lane == lane]
        if ends and max(ends) > series.first_received_at:
            yield TimelineEvent(lane, "way", "line", series.first_received_at, max(ends), "")
    yield from marks


def _events_of_deliveries(
    one: SeriesDeliveries, own: int, received: datetime, now: datetime
) -> Iterator[TimelineEvent]:
    lane = APPLICATIONS if one.route is Route.WORKERS else own
    kind = KIND_OF_STATE[one.state]
    words = f"{Target(one.route, one.target).queue}: {one.count} {one.state.value.replace('_', ' ')}"
    if one.state in {State.COLLECTING, State.PENDING, State.IN_FLIGHT}:
        yield TimelineEvent(lane, kind, "bar", min(max(one.owed_since, received), now), now, words)
    elif one.last_settled_at is not None and one.first_settled_at is not None:
        if one.state is State.DELIVERED:
            yield TimelineEvent(lane, kind, "bar", one.first_settled_at, one.last_settled_at, words)
        else:
            yield TimelineEvent(lane, kind, "end", one.last_settled_at, one.last_settled_at, words)


def _events_of_answers(one: SeriesAnswers, now: datetime) -> Iterator[TimelineEvent]:
    if one.last_arrived_at is not None:
        words = f"{one.count} results of {one.worker}"
        yield TimelineEvent(APPLICATIONS, "answer", "bar", one.first_asked_at, one.last_arrived_at, words)
    elif one.state == "owed":
        words = f"{one.worker} owes {one.count} results"
        yield TimelineEvent(APPLICATIONS, "wait", "bar", min(one.first_asked_at, now), now, words)
    else:
        words = f"{one.worker} did not answer {one.count} in time"
        yield TimelineEvent(APPLICATIONS, "bad", "end", one.last_due_at, one.last_due_at, words)


def _words_of_series(series: Series, found: StudySeries) -> Iterator[Word]:
    of_target: dict[Target, dict[State, int]] = {}
    for one in _deliveries_of(series, found):
        of_target.setdefault(Target(one.route, one.target), {})[one.state] = one.count
    for target, counts in of_target.items():
        yield progress(target, counts)
    answers = dict.fromkeys(("answered", "owed", "overdue"), 0)
    for answer in _answers_of(series, found):
        answers[answer.state] += answer.count
    if total := sum(answers.values()):
        kind = "bad" if answers["overdue"] else "wait" if answers["owed"] else "ok"
        yield Word(kind, f"results {answers['answered']} of {total}")


def progress(target: Target, counts: dict[State, int]) -> Word:
    """Return how many of the deliveries to a target are done, with the worst state as the kind."""
    total, done = sum(counts.values()), counts.get(State.DELIVERED, 0)
    waiting = sum(counts.get(state, 0) for state in (State.COLLECTING, State.PENDING, State.IN_FLIGHT))
    dead, cancelled = counts.get(State.DEAD, 0), counts.get(State.CANCELLED, 0)
    kind = "bad" if dead else "wait" if waiting else "off" if cancelled else "ok"
    more = f", {dead} dead" if dead else ""
    more += f", {cancelled} cancelled" if cancelled else ""
    name = target.name if target.route.is_archive else f"application {target.name}"
    return Word(kind, f"{name} {done} of {total}{more}")
