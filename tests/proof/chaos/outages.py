"""Whether senders felt that PostgreSQL was away: each C-STORE of that time is judged.

No I/O. While PostgreSQL is away, and shortly after, each C-STORE must be answered Success within
MAX_SECONDS. A C-STORE is not judged if another fault that breaks reception was active at the same time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from proof.chaos.faults import POSTGRES, Done, Way
from proof.chaos.journal import SUCCESS, Entry

MAX_SECONDS = 2.0
BACK_SECONDS = 5.0
"""The time after an outage that belongs to it: PostgreSQL recovers, and the backlog is registered."""
MARGIN_SECONDS = 4.0
"""The time after another fault in which its consequences are not blamed on PostgreSQL."""
INJECT = "inject "

Span = tuple[float, float]


@dataclass(slots=True)
class OutageVerdict:
    """What the senders noticed while PostgreSQL was away."""

    seconds: float = 0.0
    """How long PostgreSQL was away, all outages together."""
    judged: int = 0
    slowest: float = 0.0
    felt: list[Entry] = field(default_factory=list)
    """The C-STOREs and associations that were refused, aborted or too slow."""


def judge(faults: Sequence[Done], entries: Iterable[Entry]) -> OutageVerdict:
    """Judge what the senders noted, in the times when only PostgreSQL can be the cause."""
    away = _union(
        (fault.began, fault.ended + BACK_SECONDS) for fault in faults if fault.name.endswith(f" {POSTGRES}")
    )
    others = [_blamed_on(fault, away) for fault in faults if Way.RECEIVE in fault.ways]
    verdict = OutageVerdict(seconds=sum(ended - began - BACK_SECONDS for began, ended in away))
    for entry in entries:
        span = (entry.at - entry.seconds, entry.at)
        if not _meets(span, away) or _meets(span, others):
            continue
        verdict.judged += 1
        verdict.slowest = max(verdict.slowest, entry.seconds)
        if entry.status != SUCCESS or entry.seconds > MAX_SECONDS:
            verdict.felt.append(entry)
    return verdict


def _blamed_on(fault: Done, away: Sequence[Span]) -> Span:
    """Return the time in which another fault may be the cause.

    A fault that the product injects into itself stays active until PostgreSQL is back.
    """
    ended = fault.ended + MARGIN_SECONDS
    if fault.name.startswith(INJECT):
        ended = max([ended, *(end for began, end in away if began <= ended)])
    return fault.began, ended


def _union(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for began, ended in sorted(spans):
        if found and began <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], ended)
        else:
            found.append((began, ended))
    return found


def _meets(span: Span, others: Sequence[Span]) -> bool:
    return any(began <= span[1] and span[0] <= ended for began, ended in others)
