"""What `mini-pacs demo` prints: totals and studies with a line per step, and what is missing."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from statistics import median

from rich.console import Console
from rich.table import Table

from gateway.database.tables.flow import FlowStep, InstanceFlow
from gateway.lab.specimens import CT_STUDY, MR_STUDY
from gateway.sender.send import Sent

SHOWN_MISSING = 20


@dataclass(frozen=True, slots=True)
class DemoStep:
    """One step of all instances of a study: when each was done, how long it took, by whom."""

    name: str
    times: Sequence[datetime]
    seconds: Sequence[float]
    parties: Sequence[str]


def show(
    console: Console,
    ways: Sequence[InstanceFlow],
    sent: Mapping[str, Sent],
    names: Mapping[str, str],
    *,
    every: bool,
) -> None:
    """Print the totals, then the generated CT and MR study; with `every`, before them each other study."""
    studies = dict(_studies(ways))
    shown = [study for name in (CT_STUDY, MR_STUDY) for study in studies if names.get(study) == name]
    if every:
        for study, group in studies.items():
            if study not in shown:
                _table(console, f"{names.get(study, 'unknown')}: study {study}", group, sent)
    _table(console, f"All: {_count(len(studies), 'study', 'studies')}", ways, sent, of=len(sent))
    for study in shown:
        _table(console, f"{names[study]}: study {study}", studies[study], sent)


def _table(
    console: Console,
    title: str,
    group: Sequence[InstanceFlow],
    sent: Mapping[str, Sent],
    of: int | None = None,
) -> None:
    """Print the steps of `group`; `of` is how many instances were sent, where that may be more."""
    table = Table(
        box=None,
        padding=(0, 2, 0, 0),
        title=f"\n{title}",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("step", min_width=15)
    table.add_column("done", justify="right")
    table.add_column("time")
    table.add_column("duration", justify="right")
    table.add_column("by whom")
    for step in _steps(group, sent):
        table.add_row(
            step.name,
            f"{len(step.times)}/{len(group) if of is None else of}",
            _span(step.times),
            _spread(step.seconds),
            _who(step),
        )
    console.print(table)


def show_missing(
    console: Console, ways: Sequence[InstanceFlow], sent: Mapping[str, Sent], held: set[str], *, every: bool
) -> None:
    """Print a line for each instance that is not where it should be; without `every` only the first ones."""
    lines = list(missing(ways, sent, held))
    shown = lines if every else lines[:SHOWN_MISSING]
    for line in shown:
        console.print(line, markup=False, soft_wrap=True)
    if len(lines) > len(shown):
        console.print(f"… and {len(lines) - len(shown)} more; `mini-pacs demo --all` shows every one")


def as_json(
    ways: Sequence[InstanceFlow],
    sent: Mapping[str, Sent],
    names: Mapping[str, str],
    seconds: float,
    *,
    complete: bool,
) -> dict[str, object]:
    """The same as data: durations in seconds, times in ISO 8601."""
    return {
        "complete": complete,
        "instances": len(ways),
        "seconds": round(seconds, 3),
        "totals": [_step_as_json(step) for step in _steps(ways, sent)],
        "studies": [
            {
                "study_instance_uid": study,
                "what": names.get(study),
                "instances": len(group),
                "steps": [_step_as_json(step) for step in _steps(group, sent)],
            }
            for study, group in _studies(ways)
        ],
    }


def _step_as_json(step: DemoStep) -> dict[str, object]:
    return {
        "step": step.name,
        "done": len(step.times),
        "first": min(step.times).isoformat() if step.times else None,
        "last": max(step.times).isoformat() if step.times else None,
        "seconds_median": round(median(step.seconds), 4) if step.seconds else None,
        "seconds_max": round(max(step.seconds), 4) if step.seconds else None,
        "by": dict(Counter(step.parties)),
    }


def missing(ways: Sequence[InstanceFlow], sent: Mapping[str, Sent], held: set[str]) -> Iterator[str]:
    """A line for each instance that is not where it should be, saying where it is."""
    known = {way.sop_instance_uid for way in ways}
    for sop_instance_uid in sent:
        if sop_instance_uid not in known:
            yield f"{sop_instance_uid}: accepted, but not in the database"
    for way in ways:
        if not way.to_pacs.delivered:
            yield f"{way.sop_instance_uid}: to the PACS {_stuck(way.to_pacs)}"
        elif not way.to_worker.delivered:
            yield f"{way.sop_instance_uid}: to a worker {_stuck(way.to_worker)}"
        elif way.result_sop_instance_uid is None:
            yield f"{way.sop_instance_uid}: {way.to_worker.destination} has it; no result came yet"
        elif not way.result_to_pacs.delivered:
            yield f"{way.sop_instance_uid}: its result to the PACS {_stuck(way.result_to_pacs)}"
        elif held and not {way.sop_instance_uid, way.result_sop_instance_uid} <= held:
            yield f"{way.sop_instance_uid}: delivered, but the PACS does not hold it or its result"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _stuck(leg: FlowStep) -> str:
    return f"{leg.state or 'not owed'}: {leg.last_error or 'no error'}"


def _studies(ways: Sequence[InstanceFlow]) -> Iterator[tuple[str, list[InstanceFlow]]]:
    order = {way.study_instance_uid: number for number, way in reversed(list(enumerate(ways)))}
    in_order = sorted(ways, key=lambda way: order[way.study_instance_uid])
    for study, group in groupby(in_order, key=lambda way: way.study_instance_uid):
        yield study, list(group)


def _steps(group: Sequence[InstanceFlow], sent: Mapping[str, Sent]) -> Iterator[DemoStep]:
    """Durations: of the C-STORE for reception and PACS and worker; of the thinking for the result."""
    yield DemoStep(
        "received",
        [way.received_at for way in group],
        [sent[way.sop_instance_uid].duration_seconds for way in group if way.sop_instance_uid in sent],
        [way.calling_ae_title for way in group],
    )
    yield _leg("PACS", [way.to_pacs for way in group])
    yield _leg("worker", [way.to_worker for way in group])
    answered = [way for way in group if way.result_received_at is not None]
    yield DemoStep(
        "result",
        [way.result_received_at for way in answered if way.result_received_at is not None],
        [
            max(timedelta(), way.result_received_at - way.to_worker.settled_at).total_seconds()
            for way in answered
            if way.result_received_at is not None and way.to_worker.settled_at is not None
        ],
        [way.result_ae_title or "?" for way in answered],
    )
    yield _leg("result at PACS", [way.result_to_pacs for way in group])


def _leg(name: str, legs: Sequence[FlowStep]) -> DemoStep:
    done = [leg for leg in legs if leg.delivered]
    return DemoStep(
        name,
        [leg.settled_at for leg in done if leg.settled_at is not None],
        [leg.duration_ms / 1000 for leg in done if leg.duration_ms is not None],
        [leg.destination or "?" for leg in done],
    )


def _span(times: Sequence[datetime]) -> str:
    if not times:
        return "-"
    first, last = (f"{moment.astimezone():%H:%M:%S.%f}"[:-3] for moment in (min(times), max(times)))
    return first if len(times) == 1 else f"{first} → {last}"


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    if len(seconds) == 1:
        return f"{1000 * seconds[0]:.0f} ms"
    return f"p50 {1000 * median(seconds):.0f} ms, max {1000 * max(seconds):.0f} ms"


def _who(step: DemoStep) -> str:
    counts = sorted(Counter(step.parties).items())
    return ", ".join(name if count == len(step.parties) else f"{name} {count}" for name, count in counts)
