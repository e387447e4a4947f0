"""Increment in memory, and add the counts to PostgreSQL every few seconds.

Code that counts does not wait for PostgreSQL, also while PostgreSQL is away. If the process dies, the counts
of the last FLUSH_SECONDS are lost. If the answer to a flush is lost, its counts may be missing, but none is
counted twice.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime

from gateway.database.pool import Database
from gateway.database.tables import counters
from gateway.database.tables.counters import Increment, Labels
from gateway.errors import DatabaseError, OutcomeUnknownError

FLUSH_SECONDS = 5.0
MAX_SERIES = 1000
"""Counters of one process, by name and labels. Further ones are counted with the labels `other`."""
MAX_WAITING = 20_000
"""Entries that wait for PostgreSQL. Beyond them the minutes are merged into the present one; totals stay."""
OTHER = "other"

Series = tuple[str, tuple[tuple[str, str], ...]]
"""The name of a counter, and its labels."""


def series_of(name: str, labels: Labels) -> Series:
    """Return the series of a counter with these labels."""
    return name, tuple(sorted(labels.items()))


def minute_of(time: datetime) -> datetime:
    """Return the minute to which a time belongs."""
    return time.replace(second=0, microsecond=0)


class Counting:
    """The counters of one process. Safe across threads; create it after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: set[Series] = set()
        self._waiting: dict[tuple[Series, datetime], float] = {}

    def add(self, name: str, labels: Labels, amount: float = 1, *, minute: datetime | None = None) -> None:
        """Increment; `minute` is a time in the minute to which it belongs, by default now."""
        self.add_each([(series_of(name, labels), amount, minute_of(minute or datetime.now(UTC)))])

    def add_each(self, counts: Iterable[tuple[Series, float, datetime]]) -> None:
        """Increment several: each with its amount, and the minute to which that belongs (`minute_of`)."""
        with self._lock:
            for series, amount, minute in counts:
                key = self._known(series), minute
                self._waiting[key] = self._waiting.get(key, 0) + amount
            if len(self._waiting) > MAX_WAITING:
                self._merge()

    def flush(self, database: Database) -> None:
        """Add the waiting counts to PostgreSQL.

        Raises:
            DatabaseError: PostgreSQL is away or refuses; what was not added is kept for the next call.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            with database.statement() as session:
                counters.add(
                    session,
                    (
                        Increment(name, dict(labels), amount, minute)
                        for ((name, labels), minute), amount in waiting.items()
                    ),
                )
        except OutcomeUnknownError:
            raise  # it may be committed: a total may lack the last seconds, and never has them twice
        except DatabaseError:
            with self._lock:
                for key, amount in waiting.items():
                    self._waiting[key] = self._waiting.get(key, 0) + amount
            raise

    def _known(self, series: Series) -> Series:
        if series not in self._series:
            if len(self._series) >= MAX_SERIES:
                name, labels = series
                return name, tuple((label, OTHER) for label, _ in labels)
            self._series.add(series)
        return series

    def _merge(self) -> None:
        now = minute_of(datetime.now(UTC))
        merged: dict[tuple[Series, datetime], float] = {}
        for (series, _), amount in self._waiting.items():
            merged[series, now] = merged.get((series, now), 0) + amount
        self._waiting = merged


class Flusher:
    """A thread that calls each of `flushes` every FLUSH_SECONDS; each may raise a DatabaseError."""

    def __init__(self, *flushes: Callable[[], None]) -> None:
        self._flushes = flushes
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counting", daemon=True)

    def start(self) -> None:
        """Start to flush."""
        self._thread.start()

    def stop(self) -> None:
        """Flush for the last time, and end the thread."""
        self._stopped.set()
        self._thread.join()
        self._flush()

    def _run(self) -> None:
        while not self._stopped.wait(FLUSH_SECONDS):
            self._flush()

    def _flush(self) -> None:
        for flush in self._flushes:
            with suppress(DatabaseError):  # the counts are kept; code that needs the database logs its loss
                flush()
