"""Scrape the exporter throughout a run, and compare its counters with what PostgreSQL committed.

Triggers of this run write down each instance, repeat and attempt that is committed: the sweep purges the rows
of the product. The exporter is one of the processes that are killed and stopped.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from time import monotonic

from support.scraping import Scrape, scrape

from gateway.database.pool import Database
from gateway.database.queries import Query

SCRAPE_SECONDS = 2.0
ANSWER_SECONDS = 5.0
"""An exporter that is stopped answers nothing."""
EQUAL_SECONDS = 60.0
"""How long the counters may need to equal the rows; the exporter serves figures that are up to 5 s old."""
LEAST_SCRAPES_PER_MINUTE = 5
SHOWN = 10

Label = tuple[str, ...]
Counts = Mapping[Label, float]

_TRIGGERS = Path(__file__).with_name("counters.sql")
_COMMITTED = Query(
    "committed", "SELECT metric, label, sum(amount)::float8 FROM chaos.committed GROUP BY 1, 2"
)
_METRICS = {
    "instances_received_total": ("kind",),
    "delivery_attempts_total": ("destination", "outcome"),
}
"""The counters that are counted in the transaction of the counted rows, with the labels that are compared."""


@dataclass(frozen=True, slots=True)
class CounterVerdict:
    """What the scrapes of a run showed. `differences` are None if the run did not settle."""

    scrapes: int
    unanswered: int
    fallen: tuple[str, ...]
    compared: int
    differences: tuple[str, ...] | None

    def failures(self, minutes: float) -> list[str]:
        """Return why the run fails; empty if it passes."""
        found = []
        if self.fallen:
            found.append(f"{len(self.fallen)} counters fell, the first: {self.fallen[0]}")
        if self.differences:
            first = self.differences[0]
            found.append(f"{len(self.differences)} counters are not what was committed, the first: {first}")
        if self.scrapes < LEAST_SCRAPES_PER_MINUTE * minutes:
            found.append(f"the exporter answered only {self.scrapes} scrapes")
        return found

    def text(self) -> str:
        """Return a line for the report."""
        balance = "not compared, because the run did not settle"
        if self.differences is not None:
            balance = (
                f"{self.compared:,} registrations and attempts were committed, "
                f"{len(self.differences)} counters differ"
            )
        answers = f"{self.scrapes} scrapes, {self.unanswered} without an answer"
        return f"metrics: {answers}; {len(self.fallen)} counters fell; {balance}"


class Counters:
    """Scrapes in a thread of its own from `start` to `stop`."""

    def __init__(self, port: int, database: Database) -> None:
        self._port = port
        self._database = database
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counters", daemon=True)
        self._last: Scrape | None = None
        self._scrapes = self._unanswered = 0
        self._fallen: list[str] = []

    def prepare(self) -> None:
        """Create the triggers; nothing may have been sent yet."""
        with self._database.statement() as session:
            session.run(Query("triggers", _TRIGGERS.read_text(encoding="utf-8")))

    def start(self) -> None:
        """Start to scrape."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to scrape; do nothing if it did not begin, or has ended."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def judge(self, *, settled: bool) -> CounterVerdict:
        """Return the verdict; wait until the counters equal the rows, for a while. Call `stop` before."""
        committed = self._committed() if settled else {}
        found: list[str] | None = None
        until = monotonic() + EQUAL_SECONDS
        pause = threading.Event()
        while settled:
            seen = self._scrape()
            found = ["no answer"] if seen is None else differences(counted(seen), committed)
            if not found or monotonic() > until:
                break
            pause.wait(SCRAPE_SECONDS)  # the next snapshot of the exporter
        return CounterVerdict(
            self._scrapes,
            self._unanswered,
            tuple(self._fallen),
            round(sum(committed.values())),
            None if found is None else tuple(found),
        )

    def _run(self) -> None:
        while not self._ending.wait(SCRAPE_SECONDS):
            self._scrape()

    def _scrape(self) -> Scrape | None:
        """Scrape, and compare with the last scrape; return None without an answer, or without PostgreSQL."""
        try:
            seen = scrape(self._port, seconds=ANSWER_SECONDS)
        except (OSError, ValueError, HTTPException):
            self._unanswered += 1
            return None
        self._scrapes += 1
        if not seen.value("postgres_up"):
            return None  # it serves only the figures of the host
        if self._last is not None:
            self._fallen += seen.fallen(self._last)
        self._last = seen
        return seen

    def _committed(self) -> Counts:
        with self._database.statement() as session:
            rows = session.all(_COMMITTED)
        return {(metric, *label): amount for metric, label, amount in rows}


def counted(seen: Scrape) -> Counts:
    """Return the counters of a scrape by metric and compared labels."""
    found: Counter[Label] = Counter()
    for name, labels in _METRICS.items():
        for have, value in seen.values[f"mini_pacs_{name}"].items():
            words = dict(have)
            found[(name, *(words[label] for label in labels))] += value  # type: ignore[assignment]
    return found


def differences(seen: Counts, committed: Counts) -> list[str]:
    """Return each counter that is not what was committed; one that is 0 may be missing."""
    return [
        f"{' '.join(label)} is {seen.get(label, 0):.0f}, committed were {committed.get(label, 0):.0f}"
        for label in sorted({*seen, *committed})
        if seen.get(label, 0) != committed.get(label, 0)
    ]
