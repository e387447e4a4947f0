"""The rows of the series in the timeline of a study: counts and times of their deliveries and results.

A study with many instances is shown so. instance_row.py makes the row of one instance, picture.py draws both.
"""

from collections.abc import Iterator
from datetime import datetime

from console.views.picture import APPLICATIONS, ARCHIVES, RESULTS, Row, TimelineEvent, Word
from gateway.database.tables.study_series import Series, SeriesAnswers, SeriesDeliveries, StudySeries
from gateway.domain.delivery import State
from gateway.domain.instance import Kind
from gateway.domain.routing import Route, Target

KIND_OF_STATE = {
    State.DELIVERED: "ok",
    State.COLLECTING: "wait",
    State.PENDING: "wait",
    State.IN_FLIGHT: "move",
    State.DEAD: "bad",
    State.CANCELLED: "off",
}


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
