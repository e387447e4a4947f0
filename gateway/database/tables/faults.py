"""The table of injected faults, and the thread that reads its changes within a second."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway import log
from gateway.database.pool import Database
from gateway.database.queries import load
from gateway.database.session import Session
from gateway.errors import DatabaseError
from gateway.faults import Active, Faults, Name
from gateway.log import Stage

REFRESH_SECONDS = 0.9
"""Less than a second, which the documentation promises to operators."""

_Q = load("faults")
_KNOWN = frozenset(name.value for name in Name)


class Injected(NamedTuple):
    """A fault as an operator sees it."""

    name: str
    value: float | None
    stage: str | None
    until: datetime | None
    injected_at: datetime
    injected_by: str


class _ActiveFault(NamedTuple):
    name: str
    value: float | None
    stage: Stage | None


def active(session: Session) -> tuple[Active, ...]:
    """Return the faults that are active now."""
    return tuple(
        Active(Name(row.name), row.value, row.stage)
        for row in session.rows(_ActiveFault, _Q["active"])
        if row.name in _KNOWN  # the CLI of a newer version may inject others
    )


def inject(session: Session, fault: Active, *, duration: timedelta | None, by: str) -> None:
    """Activate a fault, for `duration` or until it is cleared; replace one of the same name."""
    session.run(
        _Q["inject"],
        name=fault.name.value,
        value=fault.value,
        stage=None if fault.stage is None else fault.stage.value,
        duration=duration,
        by=by,
    )


def clear(session: Session, name: Name | None = None) -> list[str]:
    """Clear the fault of that name (None: all); return the names of those that were active."""
    return session.values(_Q["clear"], name=None if name is None else name.value)


def injected(session: Session) -> list[Injected]:
    """Return the active faults with who injected them and until when."""
    return session.rows(Injected, _Q["list"])


class FaultWatch:
    """A thread that keeps a process's `Faults` no older than a second.

    While PostgreSQL is away the last known faults stay active, so that faults can be combined with the loss
    of the database.
    """

    def __init__(self, database: Database, faults: Faults, *, seen: Callable[[], None] | None = None) -> None:
        self._database = database
        self._faults = faults
        self._seen = seen
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault-watch", daemon=True)

    def start(self) -> None:
        """Start to copy the table into `faults`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for its end."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                # Without the guard, which would cost every second look a statement more. It only reads.
                with self._database.statement(guarded=False) as session:
                    now = active(session)
            except DatabaseError:
                pass  # code that needs the database logs its loss; the last known faults stay
            else:
                self._tell(now)
                self._faults.active = now
            if self._seen is not None:
                self._seen()
            self._stopped.wait(REFRESH_SECONDS)

    def _tell(self, now: tuple[Active, ...]) -> None:
        before = {fault.name for fault in self._faults.active}
        for fault in now:
            if fault.name not in before:
                log.write(Stage.FAULT, "active", level="warning", fault=fault.name.value)
        for name in before - {fault.name for fault in now}:
            log.write(Stage.FAULT, "over", fault=name.value)
