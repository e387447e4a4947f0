"""Examine the findings and the disk every few seconds while a page is open.

A diagnosis reads more than a snapshot, and measuring the spool lists folders. So one thread does both, at
most every PAUSE_SECONDS, and pages show its last result with its age. Peers are not asked: the state of the
breakers is enough.
"""

import asyncio
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import anyio.to_thread

from console.views.sentence import marked
from gateway import log
from gateway.diagnosis.configuration import certificates_of
from gateway.diagnosis.finding import Finding
from gateway.diagnosis.gather import Gathered, all_findings, read_database, read_spool
from gateway.diagnosis.spool import Space
from gateway.log import Stage
from gateway.metrics.current import CurrentConfiguration
from gateway.times import moments_as

PAUSE_SECONDS = 5.0
SHARE = 9
"""The pause is at least this many times as long as the examination took."""
FIRST_SECONDS = 2.0
"""How long the first page waits for the first examination."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What was found, and when; `at` is None before the first examination."""

    at: datetime | None = None
    findings: tuple[Finding, ...] = ()
    space: Space | None = None
    disk: tuple[int, int] | None = None
    """Total and free bytes of the file system of the spool."""

    @property
    def problems(self) -> int:
        """How many findings need an operator."""
        return sum(one.problem for one in self.findings)


class Health:
    """Examines the edge when somebody asks and the last result is old."""

    def __init__(self, current: CurrentConfiguration, dsn: str) -> None:
        self._current = current
        self._dsn = dsn
        self._seen = HealthReport()
        self._next = 0.0
        self._task: asyncio.Task[None] | None = None

    async def now(self) -> HealthReport:
        """Return the last result, and begin a new examination if it is old."""
        if self._task is None and monotonic() >= self._next:
            self._task = asyncio.create_task(self._examine())
        if self._seen.at is None and self._task is not None:
            await asyncio.wait({self._task}, timeout=FIRST_SECONDS)
        return self._seen

    async def stop(self) -> None:
        """Wait for an examination that runs."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=1.0)

    async def _examine(self) -> None:
        began = monotonic()
        try:
            self._seen = await anyio.to_thread.run_sync(self._look)
        except Exception as error:  # noqa: BLE001  the boundary of the task: the last result stays, with its age
            log.write(
                Stage.CONSOLE,
                "not_diagnosed",
                level="error",
                error=f"unforeseen {type(error).__name__}",
                detail=log.frames(error),
            )
        self._next = monotonic() + max(PAUSE_SECONDS, SHARE * (monotonic() - began))
        self._task = None

    def _look(self) -> HealthReport:
        configuration = self._current()
        gathered = Gathered(configuration)
        read_spool(gathered)
        read_database(gathered, self._dsn)
        now = datetime.now(UTC)
        with moments_as(marked):
            found = all_findings(gathered, list(certificates_of(configuration, now)))
        return HealthReport(now, tuple(found), gathered.space, _disk(configuration.edge.data_root))


def _disk(root: Path) -> tuple[int, int] | None:
    try:
        usage = shutil.disk_usage(root)
    except OSError:
        return None
    return usage.total, usage.free
