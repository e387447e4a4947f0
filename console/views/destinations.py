"""The screen Destinations: state, rate, latency, unanswered sends, last errors; what workers owe."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from console.snapshot import Snapshot
from gateway.database.session import Session
from gateway.database.tables import destinations, peers, processes
from gateway.database.tables.destinations import DestinationState
from gateway.database.tables.flow import WINDOW
from gateway.database.tables.pauses import Pause
from gateway.database.tables.peers import AwaitedResult, LastError, WorkerDebt
from gateway.database.tables.sends import Answers
from gateway.diagnosis.counts import state_of
from gateway.diagnosis.unanswered import Unanswered, unanswered_of
from gateway.diagnosis.words import in_words
from gateway.domain.flow import Bottleneck, DestinationFlow, TargetFlow
from gateway.domain.routing import Route

ERRORS_OVER = timedelta(hours=24)
ERRORS_EACH = 3
AWAITED_EACH = 5

BOTTLENECKS = {
    Bottleneck.NONE: "",
    Bottleneck.CLOSED: "it is paused or away",
    Bottleneck.NO_PROCESSES: "no actor process serves it",
    Bottleneck.PEER: "it answers too slowly",
    Bottleneck.EDGE: "the edge sends too slowly",
}


class Tone(StrEnum):
    """How a state is marked, beside its words."""

    WELL = "well"
    NOTE = "note"
    PROBLEM = "problem"


BADGES = {Tone.WELL: "ok", Tone.NOTE: "note", Tone.PROBLEM: "bad"}


@dataclass(frozen=True, slots=True)
class ErrorShown:
    """An error in words: how often it occurred, and when it was last."""

    text: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class DestinationShown:
    """One destination, as the screen shows it."""

    state: DestinationState
    word: str
    tone: Tone
    reason: str
    sent: DestinationFlow | None
    answers: Answers | None
    unanswered: Unanswered | None
    errors: tuple[ErrorShown, ...]
    flow: TargetFlow | None
    debt: WorkerDebt | None
    awaited: tuple[AwaitedResult, ...]

    @property
    def ae_title(self) -> str:
        """Its AE title."""
        return self.state.ae_title

    @property
    def is_worker(self) -> bool:
        """Whether it is a worker; else it is an archive."""
        return self.state.route is Route.WORKERS

    @property
    def may_resume(self) -> bool:
        """Whether there is a pause to end, or a breaker to close."""
        return self.state.paused or self.state.breaker == "open" or self.state.is_tried

    @property
    def pause(self) -> Pause:
        """Its pause, as the operator sees it."""
        return pause_of(self.state)

    @property
    def badge(self) -> str:
        """The kind of the badge of its state."""
        return "off" if self.state.paused else BADGES[self.tone]

    @property
    def bottleneck(self) -> str:
        """The cause of its backlog; empty if there is none."""
        return "" if self.flow is None else BOTTLENECKS[self.flow.bottleneck]


@dataclass(frozen=True, slots=True)
class DestinationRows:
    """What is read for the screen beside the snapshot."""

    now: datetime
    states: tuple[DestinationState, ...]
    errors: tuple[LastError, ...]
    debts: tuple[WorkerDebt, ...]
    awaited: tuple[AwaitedResult, ...]


@dataclass(frozen=True, slots=True)
class DestinationsShown:
    """The whole screen: archives, workers, and the applications that the workers serve."""

    archives: tuple[DestinationShown, ...]
    workers: tuple[DestinationShown, ...]
    applications: tuple[TargetFlow, ...]
    window_minutes: float

    @property
    def all(self) -> tuple[DestinationShown, ...]:
        """Every destination."""
        return (*self.archives, *self.workers)


def pause_of(state: DestinationState) -> Pause:
    """Return the pause of a state, to compare it with the row when somebody acts."""
    return Pause(state.paused, state.paused_by, state.pause_reason, state.paused_until)


def read(session: Session) -> DestinationRows:
    """Read the rows that no snapshot has, and the states, which an action may just have changed."""
    return DestinationRows(
        now=processes.now(session),
        states=tuple(destinations.states(session)),
        errors=tuple(peers.errors(session, ERRORS_OVER, each=ERRORS_EACH)),
        debts=tuple(peers.workers(session)),
        awaited=tuple(peers.awaited(session, each=AWAITED_EACH)),
    )


def shown(rows: DestinationRows, snapshot: Snapshot | None) -> DestinationsShown:
    """Return the screen; without a snapshot it has no rates."""
    flows = () if snapshot is None else snapshot.flows
    sending = () if snapshot is None else snapshot.view.sends
    answers = () if snapshot is None else snapshot.view.answers
    late = {
        one.ae_title: one
        for one in unanswered_of(sending, answers, rows.now if snapshot is None else snapshot.view.now)
    }
    usual = {one.ae_title: one for one in answers}
    sent = sent_by_destination(flows)
    all_shown = [
        DestinationShown(
            state=state,
            word=_word(state),
            tone=_tone(state, late.get(state.ae_title)),
            reason=in_words(state.reason) if state.reason else "",
            sent=sent.get(state.ae_title),
            answers=usual.get(state.ae_title),
            unanswered=late.get(state.ae_title),
            errors=tuple(_in_words(one) for one in rows.errors if one.destination == state.ae_title),
            flow=_flow_to(state, flows),
            debt=next((one for one in rows.debts if one.ae_title == state.ae_title), None),
            awaited=tuple(one for one in rows.awaited if one.ae_title == state.ae_title),
        )
        for state in rows.states
    ]
    return DestinationsShown(
        archives=tuple(one for one in all_shown if not one.is_worker),
        workers=tuple(one for one in all_shown if one.is_worker),
        applications=tuple(one for one in flows if one.route is Route.WORKERS),
        window_minutes=WINDOW.total_seconds() / 60,
    )


def _flow_to(state: DestinationState, flows: Sequence[TargetFlow]) -> TargetFlow | None:
    """Return the flow of an archive; a worker has none of its own, its applications have."""
    if not state.route.is_archive:
        return None
    return next((one for one in flows if one.route is state.route and one.target == state.ae_title), None)


def _word(state: DestinationState) -> str:
    if state.is_tried and not state.paused:
        return "tried with one instance"
    return state_of(state)


def _tone(state: DestinationState, late: Unanswered | None) -> Tone:
    if state.paused:
        return Tone.NOTE
    if state.breaker == "open" or (late is not None and not late.takes_others):
        return Tone.PROBLEM
    return Tone.NOTE if state.is_tried or late is not None or state.failures_in_row else Tone.WELL


def _in_words(one: LastError) -> ErrorShown:
    status = "" if one.status is None or f"0x{one.status:04X}" in one.error else f"0x{one.status:04X}: "
    return ErrorShown(in_words(status + one.error), one.count, one.last_at)


def sent_by_destination(flows: Sequence[TargetFlow]) -> dict[str, DestinationFlow]:
    """Return what each destination answered; a worker of two applications has the sum of both."""
    sent: dict[str, DestinationFlow] = {}
    for one in (each for target in flows for each in target.destinations):
        before = sent.get(one.destination)
        if before is not None:
            attempts = before.attempts_per_minute + one.attempts_per_minute
            seconds = (
                before.mean_seconds * before.attempts_per_minute + one.mean_seconds * one.attempts_per_minute
            )
            one = DestinationFlow(  # noqa: PLW2901  the sum takes its place
                one.destination,
                attempts,
                before.delivered_per_minute + one.delivered_per_minute,
                seconds / attempts if attempts else 0.0,
            )
        sent[one.destination] = one
    return sent
