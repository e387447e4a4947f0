"""`python -m proof.chaos --outage-minutes N`: PostgreSQL is away for long, under full load.

Four senders send small instances as fast as they are answered (or at `--rate`, together), two send CT at 50 a
second together. Nothing else is broken. Afterwards every reception must be registered and delivered without
an operator, and no C-STORE may have been refused, aborted or slower than MAX_SECONDS.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gateway.database.pool import Database
from gateway.errors import DatabaseError
from proof.chaos import evidence
from proof.chaos.faults import SENDING, Done
from proof.chaos.journal import HAS_IT, SUCCESS, Entry, read
from proof.chaos.ledger import Ledger, draw
from proof.chaos.outage_sender import CT_SENDERS
from proof.chaos.outages import OutageVerdict, judge
from proof.chaos.sender import SenderOptions
from proof.chaos.setup import FORWARDER, SENDERS, Setup
from proof.chaos.watch import resident_kib

CT_RATE = 50.0
"""Instances a second, of all senders of CT together."""
BEFORE_SECONDS = 10.0
AFTER_SECONDS = 10.0
"""The senders go on for this long after PostgreSQL is back."""
SAMPLE_SECONDS = 5.0
CATCH_UP_SECONDS = 3600.0


class OutageSetup(Setup):
    """The lab without workers' deliveries, and with the senders of the long outage."""

    forwarder: ClassVar[dict[str, Any]] = {**FORWARDER, "mode": "pacs_only"}

    def _program(self, order: SenderOptions) -> tuple[str, ...]:
        return (sys.executable, "-m", "proof.chaos.outage_sender", order.text())

    def _rate_of(self, number: int) -> float:
        if number < CT_SENDERS:
            return CT_RATE / CT_SENDERS
        return self._rate / (len(SENDERS) - CT_SENDERS)


@dataclass(slots=True)
class OutageReport:
    """The results of one long outage; times in seconds, from the return of PostgreSQL where not said."""

    seed: int
    away: float
    load_average: float = 0.0
    """Of the machine, the highest during the run."""
    received: int = 0
    received_ct: int = 0
    unregistered: int = 0
    """The most at once."""
    registered_within: float | None = None
    delivered_within: float | None = None
    receivers_kib_before: int = 0
    receivers_kib: int = 0
    """The memory of the largest process of `serve`, before and at most."""
    slowest_before: float = 0.0
    taken_twice: int = 0
    verdict: OutageVerdict = field(default_factory=OutageVerdict)
    ledger: Ledger = field(default_factory=Ledger)

    def failures(self) -> list[str]:
        """Return why it fails; empty if it passes."""
        found = []
        if self.verdict.felt:
            first = self.verdict.felt[0]
            found.append(
                f"{len(self.verdict.felt)} C-STOREs were refused, aborted or slow, the first answered"
                f" {first.status} after {first.seconds:.1f} s"
            )
        if self.registered_within is None or self.delivered_within is None:
            found.append("not everything was registered and delivered")
        if not self.ledger.closes:
            found.append(f"the ledger does not close: {self.ledger.missing()} deliveries are missing")
        return found

    def as_text(self) -> str:
        """Return the results as text."""
        rate = self.verdict.judged / self.away
        lines = [
            f"PostgreSQL was away for {self.away:.0f} s, load of the machine up to {self.load_average:.1f}",
            (
                f"  {self.verdict.judged} C-STOREs answered meanwhile ({rate:.0f} a second),"
                f" the slowest {self.verdict.slowest:.2f} s (before: {self.slowest_before:.2f} s);"
                f" {len(self.verdict.felt)} refused, aborted or slow"
            ),
            (
                f"  {self.received} instances acknowledged in all, {self.received_ct} of them CT;"
                f" at most {self.unregistered} unregistered"
            ),
            (
                f"  all registered {_seconds(self.registered_within)} after its return,"
                f" all delivered {_seconds(self.delivered_within)} after it"
            ),
            (
                f"  memory of the largest receiver: {self.receivers_kib_before / 1024:.0f} MB before,"
                f" {self.receivers_kib / 1024:.0f} MB at most"
            ),
            (
                f"  the PACS took {self.taken_twice} instances more than once;"
                f" {self.ledger.missing()} deliveries are missing"
            ),
            *(f"FAILED: {failure}" for failure in self.failures()),
        ]
        return "\n".join([*lines, *([] if self.failures() else ["PASSED"])])

    def as_json(self) -> dict[str, Any]:
        """Return all results."""
        return {
            **{name: getattr(self, name) for name in self.__slots__ if name not in {"verdict", "ledger"}},
            "passed": not self.failures(),
            "failures": self.failures(),
            "c_stores": self.verdict.judged,
            "slowest": self.verdict.slowest,
            "felt": [asdict(entry) for entry in self.verdict.felt],
            "missing": self.ledger.missing(),
            "deliveries": {route: dict(states) for route, states in self.ledger.states.items()},
        }


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} s"


class _Sampler:
    """Samples memory, load and the backlog in its own thread."""

    def __init__(self, setup: Setup, report: OutageReport, say: Callable[[str], None]) -> None:
        self._setup, self._report, self._say = setup, report, say
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")
        self._begun = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        report = self._report
        while not self._ending.wait(SAMPLE_SECONDS):
            pids = self._setup.supervisor.pids("edge")
            report.receivers_kib = max(report.receivers_kib, *map(resident_kib, pids), 0)
            load = float(Path("/proc/loadavg").read_text(encoding="ascii").split()[0])
            report.load_average = max(report.load_average, load)
            waiting = evidence.unregistered(self._setup)
            report.unregistered = max(report.unregistered, waiting)
            self._say(f"{time.monotonic() - self._begun:5.0f} s  unregistered: {waiting}, load {load:g}")


def run(
    folder: Path, minutes: float, seed: int, say: Callable[[str], None], *, rate: float = 0.0
) -> OutageReport:
    """Run once, with so many small instances a second (0: as many as are answered); return the results."""
    setup = OutageSetup(folder, seed=seed, rate=rate)
    database = Database(setup.lab.postgres.dsn(), application_name="chaos", size=1)
    report = OutageReport(seed, minutes * 60)
    say(f"PostgreSQL away for {minutes:g} minutes, seed {seed}, in {folder}")
    setup.open()
    sampler = _Sampler(setup, report, say)
    try:
        time.sleep(BEFORE_SECONDS)
        report.receivers_kib_before = max(map(resident_kib, setup.supervisor.pids("edge")))
        began = time.time()
        setup.supervisor.take_down("postgres")
        say("PostgreSQL is away")
        time.sleep(minutes * 60)
        setup.supervisor.bring_up("postgres")
        ended = time.time()
        say("PostgreSQL is started")
        time.sleep(AFTER_SECONDS)
        setup.stop_senders()
        report.registered_within = _wait(lambda: not evidence.unregistered(setup), ended)
        say(f"all registered: {report.registered_within}")
        report.delivered_within = _wait(lambda: not any(evidence.waiting(database)), ended)
        say(f"all delivered: {report.delivered_within}")
        for name in ("scheduler", "actors-sweep"):
            setup.supervisor.take_down(name)  # rows and files must not change while the ledger reads them
        report.ledger = draw(evidence.gather(setup, database, {}, []))
        _count(setup, report, Done("take away postgres", SENDING, began, ended))
    finally:
        sampler.stop()
        database.close()
        setup.close()
    return report


def _count(setup: Setup, report: OutageReport, outage: Done) -> None:
    entries = evidence.sent(setup)
    report.verdict = judge([outage], entries)
    report.slowest_before = max((entry.seconds for entry in entries if entry.at < outage.began), default=0.0)
    successes = [entry for entry in entries if entry.status == SUCCESS]
    report.received = len(successes)
    report.received_ct = sum(_sender(entry) < CT_SENDERS for entry in successes)
    taken = [entry.digest for entry in read(setup.pacs.journal) if entry.status in HAS_IT]
    report.taken_twice = len(taken) - len(set(taken))


def _sender(entry: Entry) -> int:
    return int(entry.sop_instance_uid.split(".")[-2])


def _wait(condition: Callable[[], bool], since: float) -> float | None:
    """Return the seconds from `since` until the condition holds; None if it takes too long."""
    while time.time() - since < CATCH_UP_SECONDS:
        try:
            if condition():
                return time.time() - since
        except (DatabaseError, subprocess.SubprocessError):
            pass  # PostgreSQL is still starting
        time.sleep(1.0)  # the interval between two looks
    return None
