"""Say in one sentence what became of something. Nothing is read here, neither a clock nor a row."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from gateway.database.tables.evidence import RuledOut, Troubled
from gateway.database.tables.refusals import RefusedInstance
from gateway.domain.delivery import State
from gateway.domain.instance import Kind
from gateway.domain.refusal_words import meaning
from gateway.domain.routing import Route, Target
from gateway.rules.errors import RuleError
from gateway.rules.language import parse
from gateway.rules.tree import sentence_of
from gateway.search.evidence import Evidence, OfSender

Clock = Callable[[datetime], str]
"""Formats a time for a person."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sentence, whether everything is where it belongs, and what to type next."""

    text: str
    is_well: bool
    commands: tuple[str, ...] = ()


@dataclass(slots=True)
class _AtPacs:
    """How many instances are in which state at the PACS, kept and purged ones together."""

    states: Counter[State] = field(default_factory=Counter)
    last_at: datetime | None = None

    @property
    def total(self) -> int:
        return self.states.total()

    @property
    def is_complete(self) -> bool:
        return self.states[State.DELIVERED] == self.total

    def add(self, state: State, count: int, last_at: datetime | None) -> None:
        self.states[state] += count
        if state is State.DELIVERED and last_at is not None:
            self.last_at = last_at if self.last_at is None else max(self.last_at, last_at)


def of_uid(found: Evidence, *, history_days: float, clock: Clock) -> Verdict:
    """Return the verdict on an instance, a series or a study; `clock` formats a time."""
    parts = list(_parts(found, clock))
    if not parts:
        return Verdict(
            f"not within the last {history_days:g} days: the edge neither accepted nor refused it",
            is_well=False,
            commands=(
                "mini-pacs refusals --since 7d",
                "mini-pacs why AE --since 7d",
            ),
        )
    originals, results = _at_pacs(found, Kind.ORIGINAL), _at_pacs(found, Kind.RESULT)
    is_well = (
        originals.total + results.total > 0
        and originals.is_complete
        and results.is_complete
        and not found.unregistered
        and not _turned_away(found)
        and not found.ruled_out
    )
    return Verdict("; ".join(parts), is_well=is_well, commands=tuple(dict.fromkeys(_commands(found))))


def of_sender(found: OfSender) -> Verdict:
    """Return the verdict on what an AE title sent in a time; each study has its own verdict beside it."""
    studies = len(found.study_instance_uids)
    refused = sum(row.count for row in found.refusals)
    parts = []
    if studies:
        parts.append(f"{found.ae_title} sent {_counted(studies, 'study', 'studies')} in that time")
    if refused:
        last = found.refusals[0]
        parts.append(f"refused by the edge {_times(refused)}: {found.ae_title} {meaning(last.reason)}")
    if not parts:
        parts.append(f"nothing came from {found.ae_title} in that time, and nothing was refused")
    return Verdict(
        "; ".join(parts),
        is_well=bool(studies) and not refused,
        commands=(f"mini-pacs refusals --calling-aet {found.ae_title}",) if refused else (),
    )


# ---- inside ------------------------------------------------------------------------------------------


def _parts(found: Evidence, clock: Clock) -> Iterator[str]:
    originals, results = _at_pacs(found, Kind.ORIGINAL), _at_pacs(found, Kind.RESULT)
    if originals.total:
        yield _of_pacs(found, originals, Kind.ORIGINAL, clock)
        if results.is_complete and results.total:
            yield f"with {_counted(results.total, 'result', 'results')}"
        elif results.total:
            yield f"results: {_of_pacs(found, results, Kind.RESULT, clock)}"
    elif results.total:
        yield _of_pacs(found, results, Kind.RESULT, clock)
    elif unowed := _unowed(found):
        yield f"{_counted(unowed, 'instance', 'instances')} kept, owed to no PACS: see forwarder.mode"
    yield from (_of_rules(one, clock) for one in found.ruled_out)
    if found.unregistered:
        assert found.unregistered_since is not None
        yield (
            f"{_counted(found.unregistered, 'instance', 'instances')} received since "
            f"{clock(found.unregistered_since)}, durable, and waiting for PostgreSQL"
        )
    if turned_away := _turned_away(found):
        last = turned_away[0]
        why = last.detail or last.reason.value
        times = _times(sum(one.count for one in turned_away))
        yield f"refused by the edge {times}, last at {clock(last.last_at)}: {why}"
    elif found.refused:
        yield f"refused {_times(sum(one.count for one in found.refused))} before it was accepted"
    if found.past and not found.studies:
        yield f"its copies were deleted by {clock(max(one.purged_at for one in found.past))}"


def _unowed(found: Evidence) -> int:
    """Return how many kept instances are not owed to the PACS for another reason than a rule."""
    kept = sum(study.instances for study in found.studies)
    return kept - sum(one.count for one in found.ruled_out)


def _of_rules(one: RuledOut, clock: Clock) -> str:
    """Say that the rules did not send instances to the PACS, by which rule of which version."""
    what = _counted(one.count, "instance", "instances")
    where = f"to {', '.join(one.archives)} and not to the PACS" if one.archives else "to no archive"
    rules = json.loads(one.rules) if one.rules else {}
    given = next((rules[target] for target in one.refused if rules.get(target) is not None), None)
    title = Target.of(one.refused[0]).name
    rule = "" if given is None else f"{title} accepts {_words(given)}; "
    since = "" if one.first_used is None else f" since {clock(one.first_used)}"
    return f"the rules sent {what} {where} ({rule}version {one.digest[:8]} of the rules{since})"


def _words(given: object) -> str:
    try:
        return sentence_of(parse(given))
    except RuleError:  # a later version of the language
        return "what this version cannot read"


def _turned_away(found: Evidence) -> list[RefusedInstance]:
    """Return the refused instances that were not accepted at another time."""
    return [one for one in found.refused if not one.was_accepted]


def _at_pacs(found: Evidence, kind: Kind) -> _AtPacs:
    at_pacs = _AtPacs()
    for counted in found.deliveries:
        if counted.route is Route.PACS and counted.kind is kind:
            at_pacs.add(counted.state, counted.count, counted.last_at)
    for past in found.past:
        if past.kind is not kind:
            continue
        for outcome in past.outcomes.values():
            if outcome["route"] == Route.PACS:
                at = None if outcome["at"] is None else datetime.fromisoformat(outcome["at"])
                at_pacs.add(State(outcome["state"]), 1, at)
    return at_pacs


def _of_pacs(found: Evidence, at_pacs: _AtPacs, kind: Kind, clock: Clock) -> str:
    delivered, total = at_pacs.states[State.DELIVERED], at_pacs.total
    if at_pacs.is_complete:
        since = "" if at_pacs.last_at is None else f" since {clock(at_pacs.last_at)}"
        return f"in the PACS{since}" + (f", all {total}" if total > 1 else "")
    reasons = ", ".join(_reasons(found, at_pacs, kind))
    if total == 1:
        return f"not in the PACS: {reasons}"
    return f"{delivered} of {total} in the PACS: {reasons}"


def _reasons(found: Evidence, at_pacs: _AtPacs, kind: Kind) -> Iterator[str]:
    dead, cancelled = at_pacs.states[State.DEAD], at_pacs.states[State.CANCELLED]
    waiting = at_pacs.states[State.PENDING] + at_pacs.states[State.IN_FLIGHT]
    first: dict[State, Troubled] = {}
    for bad in found.troubled:
        if bad.route is Route.PACS and bad.kind is kind:
            first.setdefault(bad.state, bad)
    if dead:
        one = first.get(State.DEAD)
        if one is None or one.last_status is None:
            yield f"{_short(dead)} given up{_because(one)}"
        else:
            yield f"the PACS refused {_short(dead)} ({one.last_error or f'0x{one.last_status:04X}'})"
    if cancelled:
        one = first.get(State.CANCELLED)
        by = f" by {one.settled_by}" if one is not None and one.settled_by else ""
        yield f"{_short(cancelled)} cancelled{by}"
    if waiting:
        yield f"{_short(waiting)} waiting{_because(first.get(State.PENDING))}"


def _because(one: Troubled | None) -> str:
    return f" ({one.last_error})" if one is not None and one.last_error else ""


def _commands(found: Evidence) -> Iterator[str]:
    studies = list(dict.fromkeys(study.study_instance_uid for study in found.studies))
    if any(one.state is State.DEAD for one in found.deliveries):
        yield from (f"mini-pacs deliveries retry --study {study}" for study in studies)
    elif any(one.state is State.CANCELLED for one in found.deliveries):
        yield from (f"mini-pacs deliveries resend --study {study}" for study in studies)
    elif any(one.state in {State.PENDING, State.IN_FLIGHT} for one in found.deliveries):
        yield "mini-pacs status"
    yield from (f"mini-pacs status --study {study}" for study in studies)
    yield from (f"mini-pacs rules explain {one.sop_instance_uid}" for one in found.ruled_out)
    titles = dict.fromkeys(one.calling_ae_title for one in found.refused)
    yield from (f"mini-pacs refusals --calling-aet {title}" for title in titles)
    if found.unregistered:
        yield "mini-pacs status"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _short(count: int) -> str:
    return "one" if count == 1 else str(count)
