"""Tell that PostgreSQL cannot be used, while no message can be queued and no finding can have a row.

The actor process of the sweep's queue runs this in a thread of its own, which needs neither the queue nor the
tables. It tells an outage once when it has lasted for `notify.after_seconds`, and once that it is over. What
was told is kept in a file beside the log, so that a restart does not repeat it.

If the process dies
    before the endpoint has the message   its successor tells it, counting the grace from its own start
    after that, before the file           its successor tells it again: twice is better than never
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

from pydantic import BaseModel, ValidationError

from gateway import log
from gateway.config import Configuration
from gateway.database.tables.findings import FindingRow
from gateway.diagnosis import postgres
from gateway.diagnosis.finding import Finding, Holds
from gateway.log import Stage
from gateway.notify.tell import deliver

CHECK_SECONDS = 15.0
SILENCE_SECONDS = 150.0
"""If the examination of each minute recorded nothing for this long, this thread reports the outage. Must
exceed two minutes."""
FILE_NAME = "notify-outage.json"


class _Outage(BaseModel):
    key: str
    severity: str
    what: str
    means: str
    remedy: str
    opened_at: datetime


class _Told(BaseModel):
    """What the file holds: the outages that were told and are not over, and when the last message was."""

    outages: list[_Outage] = []
    last_at: datetime | None = None


class OutageTeller:
    """The thread of one process. `configuration` returns the configuration of now."""

    def __init__(self, configuration: Callable[[], Configuration], dsn: str) -> None:
        self._configuration = configuration
        self._dsn = dsn
        self._first_seen: dict[str, datetime] = {}
        self._recorded_at = monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outage-teller", daemon=True)

    def start(self) -> None:
        """Start to check."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end; it may be in the middle of a check, and is a daemon."""
        self._ended.set()

    def recorded(self) -> None:
        """Note that the examination of the minute wrote its findings into PostgreSQL."""
        self._recorded_at = monotonic()

    def check(self) -> bool:
        """Ask PostgreSQL, and tell what has to be told; tell whether an endpoint took a message."""
        configuration = self._configuration()
        if configuration.notify is None:
            return False
        path = configuration.edge.log_path.with_name(FILE_NAME)
        told = _read(path)
        found = self._outages()
        now = datetime.now(UTC)
        self._first_seen = {one.key: self._first_seen.get(one.key, now) for one in found}
        grace = timedelta(seconds=configuration.notify.after_seconds)
        keys = {one.key for one in told.outages}
        opened = [
            _outage(one, self._first_seen[one.key])
            for one in found
            if one.key not in keys and now - self._first_seen[one.key] >= grace
        ]
        closed = [] if found else told.outages
        pause = timedelta(seconds=configuration.notify.at_most_every_seconds)
        if (not opened and not closed) or (told.last_at is not None and now - told.last_at < pause):
            return False
        rows = [*(_row(one, None) for one in opened), *(_row(one, now) for one in closed)]
        if "" not in deliver(configuration, configuration.notify, rows).values():
            return False
        _write(path, _Told(outages=[*told.outages, *opened] if found else [], last_at=now))
        return True

    def _outages(self) -> list[Finding]:
        seen = postgres.look(self._dsn, tries_to_write=False)
        is_silent = monotonic() - self._recorded_at > SILENCE_SECONDS
        if seen.error is None and not is_silent:
            return []  # findings get rows, and the queue tells them
        return [one for one in seen.findings if one.problem and one.holds is Holds.ALL]

    def _run(self) -> None:
        while not self._ended.wait(CHECK_SECONDS):
            try:
                self.check()
            except Exception as error:  # noqa: BLE001  the boundary of the thread: the next check goes on
                log.write(
                    Stage.SWEEP, "notify_failed", level="error",
                    error=f"unforeseen {type(error).__name__}", detail=log.frames(error),
                )  # fmt: skip


def _outage(one: Finding, opened_at: datetime) -> _Outage:
    return _Outage(
        key=one.key,
        severity=one.severity.value,
        what=one.what,
        means=one.means,
        remedy=one.remedy,
        opened_at=opened_at,
    )


def _row(one: _Outage, closed_at: datetime | None) -> FindingRow:
    return FindingRow(
        id=0,
        key=one.key,
        severity=one.severity,
        what=one.what,
        means=one.means,
        remedy=one.remedy,
        holds_back=Holds.ALL.name.lower(),
        opened_at=one.opened_at,
        closed_at=closed_at,
    )


def _read(path: Path) -> _Told:
    try:
        return _Told.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):  # none, or damaged: at worst a message is repeated
        return _Told()


def _write(path: Path, told: _Told) -> None:
    written = path.with_name(path.name + ".part")
    try:
        written.write_text(told.model_dump_json())
        written.replace(path)
    except OSError as error:
        log.write(Stage.SWEEP, "notify_failed", level="warning", detail=str(path), error=str(error.strerror))
