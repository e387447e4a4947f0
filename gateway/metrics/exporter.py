"""Make a snapshot of all figures when somebody asks, and keep it for a few seconds.

Scrapes that come together wait for one snapshot, so that many Prometheus servers cost as much as one.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from time import monotonic

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.metrics.families import Samples

CACHE_SECONDS = 5.0

Source = Callable[[], Samples]
"""Returns figures. It handles its errors itself: a scrape is always answered."""


class Exporter(Collector):
    """All figures of `sources`, at most `cache_seconds` old."""

    def __init__(self, sources: Sequence[Source], *, cache_seconds: float = CACHE_SECONDS) -> None:
        self._sources = sources
        self._cache_seconds = cache_seconds
        self._lock = threading.Lock()
        self._metrics: tuple[Metric, ...] = ()
        self._made_at = -cache_seconds

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering the collector makes no snapshot."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the snapshot; make a new one if it is too old."""
        with self._lock:
            if monotonic() - self._made_at >= self._cache_seconds:
                self._metrics = tuple(self._snapshot().metrics())
                self._made_at = monotonic()
            return self._metrics

    def _snapshot(self) -> Samples:
        began = monotonic()
        samples = Samples()
        for source in self._sources:
            samples.update(source())
        samples.set("snapshot_seconds", monotonic() - began)
        return samples
