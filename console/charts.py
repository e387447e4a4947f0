"""The figures of the charts: throughput, latency and backlog of the last hour or day.

They come from the counters of each minute, which the edge keeps for two days. The counters are folded once a
minute, so the newest step may still grow.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from time import time
from typing import Any

from gateway.database.session import Session
from gateway.database.tables import backlog, traffic
from gateway.database.tables.traffic import CounterStep

SERIES_MOST = 8
_RECEIVED, _ATTEMPTS, _LATENCY = "instances_received", "delivery_attempts", "end_to_end_seconds_bucket"
_HALF, _MOST = 0.5, 0.95


class Window(StrEnum):
    """How far a chart reaches back."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class _Scale:
    window: timedelta
    step: timedelta


_SCALES = {
    Window.HOUR: _Scale(timedelta(hours=1), timedelta(minutes=1)),
    Window.DAY: _Scale(timedelta(days=1), timedelta(minutes=10)),
}


def charts(session: Session, window: Window) -> dict[str, Any]:
    """Return the charts as uPlot takes them: times first, then the values of each series."""
    scale = _SCALES[window]
    step = scale.step.total_seconds()
    last = time() // step * step
    times = [last - number * step for number in range(int(scale.window / scale.step), -1, -1)]
    read: dict[str, Any] = {"window": scale.window, "step": scale.step}
    received = traffic.history(session, [_RECEIVED], label="kind", **read)
    delivered = traffic.history(session, [_ATTEMPTS], label="destination", outcome="delivered", **read)
    latency = traffic.history(session, [_LATENCY], label="le", **read)
    waiting = backlog.history(session, **read)
    minutes = scale.step / timedelta(minutes=1)
    return {
        "window": window.value,
        "throughput": _chart(
            times,
            {
                "received": _per_minute(_only(received, "original"), minutes),
                "results": _per_minute(_only(received, "result"), minutes),
                "delivered": _per_minute(delivered, minutes),
            },
        ),
        "latency": _chart(times, _quantiles(latency), missing=None),
        "backlog": _chart(times, _by_target(waiting), missing=None),
    }


def _chart(
    times: list[float], series: dict[str, dict[float, float]], missing: float | None = 0.0
) -> dict[str, Any]:
    names = list(series)[:SERIES_MOST]
    return {
        "names": names,
        "data": [times, *([series[name].get(at, missing) for at in times] for name in names)],
    }


def _only(steps: list[CounterStep], label: str) -> list[CounterStep]:
    return [one for one in steps if one.label == label]


def _per_minute(steps: list[CounterStep], minutes: float) -> dict[float, float]:
    found: dict[float, float] = {}
    for one in steps:
        found[one.at] = found.get(one.at, 0.0) + one.amount / minutes
    return found


def _quantiles(steps: list[CounterStep]) -> dict[str, dict[float, float]]:
    """Return the time from reception to destination that half, and 95 %, of the instances took at most."""
    buckets: dict[float, dict[float, float]] = {}
    for one in steps:
        bound = float("inf") if one.label == "+Inf" else float(one.label)
        of_step = buckets.setdefault(one.at, {})
        of_step[bound] = of_step.get(bound, 0.0) + one.amount
    return {
        "half": {at: quantile(counts, _HALF) for at, counts in buckets.items()},
        "95 %": {at: quantile(counts, _MOST) for at, counts in buckets.items()},
    }


def quantile(counts: dict[float, float], share: float) -> float:
    """Return the value below which `share` of the counted values lie, between the bounds of its bucket.

    `counts` has for each upper bound how many values lie below it and above the next smaller bound.
    """
    total = sum(counts.values())
    wanted, below, lower = share * total, 0.0, 0.0
    for bound in sorted(counts):
        count = counts[bound]
        if below + count >= wanted and count:
            return lower if bound == float("inf") else lower + (bound - lower) * (wanted - below) / count
        below += count
        lower = bound
    return lower


def _by_target(points: list[backlog.Point]) -> dict[str, dict[float, float]]:
    found: dict[str, dict[float, float]] = {}
    for one in points:
        found.setdefault(one.target, {})[one.at] = one.waiting
    return found
