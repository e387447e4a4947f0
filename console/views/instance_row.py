"""The row of an instance in the timeline of a study: its steps as events, and the last outcomes in words.

series_rows.py makes a row for each series, picture.py draws both.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from console.views.picture import APPLICATIONS, ARCHIVES, RESULTS, Row, TimelineEvent, Word
from gateway.domain.delivery import State
from gateway.domain.timeline import InstanceTimeline, Step, StepName
from gateway.times import span

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
_LASTING = {State.COLLECTING.value: "wait", State.PENDING.value: "wait", "in flight": "move", "owed": "wait"}
"""Outcomes that go on until now."""
_ENDS = {State.DEAD.value: "bad", State.CANCELLED.value: "off"}


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
