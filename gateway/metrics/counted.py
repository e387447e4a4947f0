"""Turn the counters of PostgreSQL into figures.

A counter has the name of its metric without `_total`. A histogram is a counter for each bucket, NAME_bucket
with the label `le`, and NAME_sum. Counters that are no metric are left out.
"""

from collections.abc import Iterable

from gateway.database.tables.counters import Total
from gateway.database.tables.metrics import DURATION_BOUNDS, LONG_BOUNDS
from gateway.domain.dimse_status import Status
from gateway.domain.refusal import KIND_OF, RefusalKind
from gateway.metrics.families import BY_NAME, INFINITY, Samples
from gateway.receive.answers import status_label
from gateway.receive.refusals import REFUSALS

BOUNDS = {
    "store_duration_seconds": DURATION_BOUNDS,
    "delivery_duration_seconds": DURATION_BOUNDS,
    "end_to_end_seconds": LONG_BOUNDS,
    "result_duration_seconds": LONG_BOUNDS,
}
"""The upper bounds of the buckets of each histogram."""


def counted(samples: Samples, totals: Iterable[Total]) -> None:
    """Add the counters to the figures, and those that never counted as 0."""
    for total in totals:
        name, _, part = total.name.rpartition("_")
        if total.name == REFUSALS:
            _add_refusal(samples, total)
        elif name in BOUNDS:
            _add_to_histogram(samples, name, part, total)
        else:
            _add_counter(samples, total)
    for status in Status:
        samples.zero("store_responses_total", status=status_label(status))
    for reason, kind in KIND_OF.items():
        if kind is RefusalKind.ASSOCIATION:
            samples.zero("associations_rejected_total", reason=reason.value)
    for name, bounds in BOUNDS.items():
        for histogram in samples.histograms.get(name, {}).values():
            for bound in bounds:
                histogram.buckets.setdefault(str(bound), 0.0)


def _add_counter(samples: Samples, total: Total) -> None:
    family = BY_NAME.get(f"{total.name}_total")
    if family is not None and set(total.labels) == set(family.labels):
        samples.set(family.name, total.total, **total.labels)


def _add_refusal(samples: Samples, total: Total) -> None:
    if total.labels.get("kind") == RefusalKind.ASSOCIATION:
        samples.set("associations_rejected_total", total.total, reason=total.labels["reason"])


def _add_to_histogram(samples: Samples, name: str, part: str, total: Total) -> None:
    labels = {label: value for label, value in total.labels.items() if label != "le"}
    if set(labels) != set(BY_NAME[name].labels):
        return
    histogram = samples.histogram(name, **labels)
    if part == "sum":
        histogram.sum = total.total
    elif part == "bucket":
        bound = total.labels["le"]
        # PostgreSQL writes 1.0 as 1
        histogram.buckets[bound if bound == INFINITY else str(float(bound))] = total.total
