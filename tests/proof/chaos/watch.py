"""Observations during a run: memory of every process, and a line of progress every few seconds."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.errors import DatabaseError
from proof.chaos.evidence import units, unregistered, waiting
from proof.chaos.setup import Setup
from proof.chaos.unit_ledger import Units

if TYPE_CHECKING:
    from proof.chaos.ledger import Version

SAMPLE_SECONDS = 2.0
PROGRESS_SECONDS = 10.0
_VERSIONS = Query(
    "versions", "SELECT id, sop_instance_uid, encode(sha256, 'hex') FROM instances WHERE id > %(after)s"
)
_LATE = 500
"""This many earlier ids are read again, since ids are drawn before their commit."""


class Watch:
    """Samples in its own thread from `start` to `stop`."""

    def __init__(self, setup: Setup, database: Database, say: Callable[[str], None]) -> None:
        self._setup = setup
        self._database = database
        self._say = say
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self._begun = time.monotonic()
        self.peaks: Counter[str] = Counter()
        """By program, the highest memory of one process of it (KiB resident)."""
        self.versions: dict[int, Version] = {}
        """UID and digest of each row id, which the edge's log names; purged rows included."""
        self.units = Units()
        self.faults: Callable[[], int] = lambda: 0

    def start(self) -> None:
        """Start sampling."""
        self._begun = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling; do nothing if it has ended."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def learn(self) -> None:
        """Read the new rows, and the units, long before they are purged."""
        try:
            with self._database.statement() as session:
                found = session.all(_VERSIONS, after=max(self.versions, default=0) - _LATE)
            asked = self.units.unsettled()
            self.units.learn(units(self._database, asked), asked=asked)
        except DatabaseError:
            return  # PostgreSQL is away: the next look finds them
        self.versions.update((number, (uid, digest)) for number, uid, digest in found)

    def tell(self, what: str) -> None:
        """Print one line of progress."""
        try:
            pacs, archives, workers, results = waiting(self._database)
        except DatabaseError:
            owed = f"PostgreSQL is away; unregistered: {unregistered(self._setup)}"
        else:
            owed = (
                f"unregistered: {unregistered(self._setup)}; waiting: {pacs} for the PACS,"
                f" {archives} for the archive, {workers} for workers, {results} results"
            )
        self._say(f"{time.monotonic() - self._begun:5.0f} s  {what}; {owed}")

    def _run(self) -> None:
        told = time.monotonic()
        while not self._ending.wait(SAMPLE_SECONDS):
            self._sample()
            self.learn()
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                self.tell(f"{self.faults()} faults")

    def _sample(self) -> None:
        for name in self._setup.supervisor.names:
            for pid in self._setup.supervisor.pids(name):
                self.peaks[name] = max(self.peaks[name], resident_kib(pid))


def resident_kib(pid: int) -> int:
    """Return the resident memory of a process; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return int(line.split()[1])
