"""The metrics by name: type, help, labels. No figure is served that is not listed here.

Labels have a bounded number of values: AE titles that the configuration names, words of this program, and the
folders of the spool. None holds a UID or an attribute of a patient.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from gateway.processes.own_figures import CPU_SECONDS, MEMORY_BYTES, OPEN_FILES

PREFIX = "mini_pacs_"
INFINITY = "+Inf"


class MetricType(StrEnum):
    """The type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `name` is without the prefix; that of a counter ends in `_total`."""

    name: str
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(name, MetricType.COUNTER, text, labels)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(name, MetricType.GAUGE, text, labels)


def _histogram(name: str, text: str, *labels: str) -> Family:
    return Family(name, MetricType.HISTOGRAM, text, labels)


FAMILIES = (
    _gauge("build_info", "1; the labels have the versions", "version", "python"),
    _gauge("postgres_up", "1 if the exporter reaches PostgreSQL, else 0"),
    _gauge("snapshot_seconds", "How long the exporter took to read the figures"),
    # reception
    _counter("instances_received_total", "Receptions that are registered", "calling_aet", "kind"),
    _counter("received_bytes_total", "Bytes of the data sets of registered receptions", "calling_aet"),
    _counter("store_responses_total", "Answers to C-STOREs, by DIMSE status", "status"),
    _histogram("store_duration_seconds", "From the C-STORE-RQ to its answer"),
    _gauge("unregistered_instances", "Receptions answered Success whose rows are not in PostgreSQL yet"),
    _gauge("unregistered_oldest_seconds", "How long the oldest of them has waited"),
    _gauge("associations", "Open associations", "direction"),
    _counter("associations_rejected_total", "Associations that the edge rejected", "reason"),
    # deliveries
    _gauge("deliveries", "Deliveries that are not completed", "destination", "state"),
    _counter("deliveries_cancelled_total", "Deliveries that were cancelled", "destination"),
    _gauge("oldest_pending_seconds", "How long the oldest pending delivery has waited", "destination"),
    _counter("delivery_attempts_total", "Attempts to send an instance", "destination", "outcome"),
    _histogram("delivery_duration_seconds", "Duration of an attempt", "destination"),
    _histogram(
        "end_to_end_seconds", "From the reception until the destination has the instance", "destination"
    ),
    _gauge("destination_info", "1; the kind is archive or worker", "destination", "kind"),
    _gauge("destination_up", "1 if deliveries are sent there, 0 if its breaker is open", "destination"),
    _gauge("destination_paused", "1 if an operator paused it", "destination"),
    _gauge("destination_last_success_timestamp_seconds", "When it took an instance last", "destination"),
    # results
    _gauge("results_owed", "Results that a worker still owes", "destination"),
    _counter("results_total", "Results that a worker owed, by what became of them", "destination", "outcome"),
    _histogram("result_duration_seconds", "From the request until the result arrived", "destination"),
    # queue
    _gauge("queue_messages", "Messages of the queue", "queue", "state"),
    _gauge("queue_latency_seconds", "How long the oldest message that is due has waited", "queue"),
    _gauge("queue_consumers", "Living actor processes that consume the queue", "queue"),
    # the host
    _gauge("spool_files", "Files in a folder of the spool", "place"),
    _gauge("spool_bytes", "Bytes of these files", "place"),
    _gauge("disk_free_bytes", "Free bytes of the spool's disk"),
    _gauge("disk_reserve_bytes", "Below so many free bytes the edge refuses instances"),
    # what to look after
    _gauge("faults_active", "Faults that somebody injected on purpose"),
    _gauge("findings", "What `mini-pacs status` has to say", "severity"),
    _gauge("sweep_last_run_timestamp_seconds", "When this part of the sweep ran last", "verb"),
    _gauge("certificate_expiry_timestamp_seconds", "When the certificate for this peer ends", "peer"),
    # processes
    _counter("process_cpu_seconds_total", "CPU time of a process", "process", "host", "pid"),
    _gauge("process_resident_memory_bytes", "Memory of a process", "process", "host", "pid"),
    _gauge("process_open_fds", "Open file descriptors of a process", "process", "host", "pid"),
    _gauge("process_start_time_seconds", "When a process started", "process", "host", "pid"),
)

BY_NAME = {family.name: family for family in FAMILIES}

Labels = tuple[str, ...]


@dataclass(slots=True)
class Histogram:
    """The buckets of one histogram by upper bound, each without those below it; and the sum."""

    buckets: dict[str, float] = field(default_factory=dict)
    sum: float = 0.0


class Samples:
    """Figures by metric and labels."""

    def __init__(self) -> None:
        self.values: dict[str, dict[Labels, float]] = {}
        self.histograms: dict[str, dict[Labels, Histogram]] = {}

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a figure; KeyError if no metric has that name and these labels."""
        self.values.setdefault(name, {})[_ordered(name, labels)] = value

    def zero(self, name: str, **labels: str) -> None:
        """Set a figure to 0 if it has none, so that its first increase is seen as one."""
        self.values.setdefault(name, {}).setdefault(_ordered(name, labels), 0.0)

    def histogram(self, name: str, **labels: str) -> Histogram:
        """Return the histogram with these labels; add it if there is none."""
        return self.histograms.setdefault(name, {}).setdefault(_ordered(name, labels), Histogram())

    def update(self, other: "Samples") -> None:
        """Add the figures of `other`."""
        for name, values in other.values.items():
            self.values.setdefault(name, {}).update(values)
        for name, histograms in other.histograms.items():
            self.histograms.setdefault(name, {}).update(histograms)

    def metrics(self) -> Iterable[Metric]:
        """Yield every metric that has a figure, as prometheus_client wants it."""
        for family in FAMILIES:
            values, histograms = self.values.get(family.name), self.histograms.get(family.name)
            if values:
                yield _metric(family, values)
            elif histograms:
                yield _histogram_metric(family, histograms)


PROCESS_FIGURES = {
    CPU_SECONDS: "process_cpu_seconds_total",
    MEMORY_BYTES: "process_resident_memory_bytes",
    OPEN_FILES: "process_open_fds",
}


def process_figures(
    samples: Samples, started_at: float, figures: Mapping[str, float], **process: str
) -> None:
    """Add what a process costs; `process` are the labels."""
    samples.set("process_start_time_seconds", started_at, **process)
    for figure, name in PROCESS_FIGURES.items():
        if figure in figures:
            samples.set(name, figures[figure], **process)


def _ordered(name: str, labels: Mapping[str, str]) -> Labels:
    family = BY_NAME[name]
    if set(labels) != set(family.labels):
        raise KeyError(f"{name} has the labels {family.labels}, not {tuple(labels)}")
    return tuple(labels[label] for label in family.labels)


def _metric(family: Family, values: Mapping[Labels, float]) -> Metric:
    make = CounterMetricFamily if family.type is MetricType.COUNTER else GaugeMetricFamily
    metric = make(PREFIX + family.name, family.help, labels=family.labels)
    for labels, value in sorted(values.items()):
        metric.add_metric(labels, value)
    return metric


def _histogram_metric(family: Family, histograms: Mapping[Labels, Histogram]) -> Metric:
    metric = HistogramMetricFamily(PREFIX + family.name, family.help, labels=family.labels)
    for labels, histogram in sorted(histograms.items(), key=lambda item: item[0]):
        total = 0.0
        buckets = []
        for bound in sorted({*histogram.buckets, INFINITY}, key=float):
            total += histogram.buckets.get(bound, 0.0)
            buckets.append((bound, total))
        metric.add_metric(labels, buckets, histogram.sum)
    return metric
