"""The time from a fault's end until its path works again, and what workers' faults cost the originals (G5).

No I/O. A recovery is the time from the end of a fault to the next success on a path that it broke. If
another fault on this path began before that and ended later, the recovery is counted for the later one.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from proof.chaos.faults import Done, Way

HINDERED_BY: Mapping[Way, frozenset[Way]] = {
    Way.RECEIVE: frozenset({Way.RECEIVE}),
    # without receptions nothing can be forwarded
    Way.PACS: frozenset({Way.RECEIVE, Way.PACS}),
    Way.ARCHIVES: frozenset({Way.RECEIVE, Way.ARCHIVES}),
    Way.WORKERS: frozenset({Way.RECEIVE, Way.WORKERS}),
    Way.SWEEP: frozenset({Way.SWEEP}),
}


@dataclass(frozen=True, slots=True)
class Recovery:
    """The seconds from that fault's end to the next success on that path; None if there was none."""

    fault: str
    way: Way
    at: float
    seconds: float | None


def recoveries(faults: Sequence[Done], successes: Mapping[Way, Sequence[float]]) -> list[Recovery]:
    """Return one for each fault and path that could be measured; `successes` are sorted times by path."""
    found = []
    for fault in faults:
        for way in sorted(fault.ways):
            times = successes[way]
            index = bisect_left(times, fault.ended)
            success = times[index] if index < len(times) else None
            if not any(_hides(other, fault, way, success) for other in faults):
                seconds = None if success is None else success - fault.ended
                found.append(Recovery(fault.name, way, fault.ended, seconds))
    return found


def _hides(other: Done, fault: Done, way: Way, success: float | None) -> bool:
    if other is fault or not other.ways & HINDERED_BY[way]:
        return False
    return other.ended > fault.ended and (success is None or other.began < success)


def slowest(found: Sequence[Recovery]) -> Recovery | None:
    """Return the slowest; a recovery that never came counts as the slowest."""
    return max(found, key=lambda r: float("inf") if r.seconds is None else r.seconds, default=None)


def latencies(
    acknowledged: Mapping[str, float], taken: Mapping[str, float], stretches: Sequence[tuple[float, float]]
) -> list[float]:
    """Return the seconds from a sender's Success to the PACS's answer, sorted.

    Only receptions during `stretches` count. `acknowledged` and `taken` are times by digest.
    """
    return sorted(
        max(0.0, taken[digest] - at)
        for digest, at in acknowledged.items()
        if digest in taken and any(began <= at < ended for began, ended in stretches)
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the sorted values does not exceed; 0.0 if there is none."""
    return values[max(0, ceil(share * len(values)) - 1)] if values else 0.0
