"""Write the row of this process into PostgreSQL every BEAT_SECONDS, on a thread of its own.

The row says that the process runs, and which configuration and spool it uses. A process that is stopped by
SIGSTOP, or that hangs, stops writing. While PostgreSQL is away the thread logs nothing; code that needs the
database logs its loss.

The thread also looks whether `mini-pacs config reload` proposes another configuration (`live`).

The row is written also while spool and database do not belong together, so that an operator sees which
process uses the wrong pair.

If the process dies
    at any line   its row remains; after a minute the heartbeat of another process deletes it
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from uuid import uuid4

from gateway import log
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import processes
from gateway.database.tables.processes import Beat, ProcessKind
from gateway.errors import DatabaseError
from gateway.log import Stage
from gateway.processes.live import LiveConfiguration
from gateway.processes.own_figures import ASSOCIATIONS, figures_of
from gateway.processes.own_spool import identity_of, os_user, problem_of

BEAT_SECONDS = 5.0
WATCH_SECONDS = 2.0
"""Between two looks at the version of the configuration that all processes are to take."""
FORGET_SECONDS = 30.0
"""Between two deletions of the rows of processes that are gone."""


def _nobody() -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class OwnProcess:
    """What a process says about itself. `parent_of` is the row of the parent, if this process writes it."""

    kind: ProcessKind
    serves: str
    data_root: Path | None = None
    consumer: Callable[[], int | None] = _nobody
    associations: Callable[[], int] | None = None
    parent: Callable[[], Beat] | None = None
    id: str = field(default_factory=lambda: str(uuid4()))
    pid: int = field(default_factory=os.getpid)
    started: float = field(default_factory=monotonic)

    def beat(self) -> Beat:
        """Return the row of this process, without the columns that the heartbeat fills in."""
        return Beat(
            id=self.id,
            kind=self.kind,
            serves=self.serves,
            host=socket.gethostname(),
            pid=self.pid,
            os_user=os_user(),
            version=version("mini-pacs-edge"),
            age=timedelta(seconds=monotonic() - self.started),
            consumer_id=self.consumer(),
            figures=self._figures(),
        )

    def _figures(self) -> Mapping[str, float]:
        figures = figures_of(self.pid)
        if self.associations is not None:
            figures = {**figures, ASSOCIATIONS: self.associations()}
        return figures


class Heartbeat:
    """The thread of one process."""

    def __init__(
        self, database: Database, process: OwnProcess, live: LiveConfiguration | None = None
    ) -> None:
        self._database = database
        self._process = process
        self._live = live
        self._next_beat = 0.0
        self._clock_offset_ms: float | None = None
        self._is_written = False
        self._next_forget = monotonic() + FORGET_SECONDS
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, wait for its end, and delete the row of this process."""
        self._stopped.set()
        self._thread.join()
        if not self._is_written:
            return  # PostgreSQL is away: do not wait for it
        ids = [self._process.id]
        if self._process.parent is not None:
            ids.append(self._process.parent().id)
        try:
            with self._database.statement(durable=False, guarded=False) as session:
                processes.remove(session, ids)
        except DatabaseError:
            pass  # safe: the row is deleted a minute later

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._look()
            except DatabaseError:
                self._is_written, self._next_beat = False, 0.0
            except Exception as error:  # noqa: BLE001  the boundary of the thread: the next look tries again
                log.write(
                    Stage.DB,
                    "heartbeat_failed",
                    level="error",
                    error=f"unforeseen {type(error).__name__}",
                    detail=log.frames(error),
                )
                self._stopped.wait(BEAT_SECONDS)
            self._stopped.wait(WATCH_SECONDS)

    def _look(self) -> None:
        with self._database.statement(durable=False, guarded=False) as session:
            if monotonic() >= self._next_beat:
                self._beat(session)
            if self._live is not None and self._live.follow(session, self._process.id):
                self._beat(session)  # say at once what this process took
        if self._live is not None:
            self._live.configure(self._database)

    def _beat(self, session: Session) -> None:
        if self._clock_offset_ms is None:
            self._note_clock(lambda: processes.now(session))
        row = self._own_row()
        self._note_clock(lambda: processes.beat(session, row))
        if self._process.parent is not None:
            processes.beat(session, self._with_configuration(self._process.parent()))
        if monotonic() > self._next_forget:
            self._next_forget = monotonic() + FORGET_SECONDS
            processes.forget_dead(session)
        self._is_written, self._next_beat = True, monotonic() + BEAT_SECONDS

    def _note_clock(self, ask: Callable[[], datetime]) -> None:
        """Note how far our clock is ahead of that of PostgreSQL, within half of the time of `ask`."""
        before = time.time()
        theirs = ask().timestamp()
        self._clock_offset_ms = round(((before + time.time()) / 2 - theirs) * 1000, 1)

    def _with_configuration(self, row: Beat) -> Beat:
        if self._live is None:
            return row
        return replace(row, configuration_digest=self._live.digest, restart_for=self._live.restart_for)

    def _own_row(self) -> Beat:
        row = self._with_configuration(self._process.beat())
        row = replace(row, clock_offset_ms=self._clock_offset_ms)
        if self._process.data_root is None:
            return row
        identity = identity_of(self._process.data_root)
        return replace(
            row,
            spool_name=None if identity is None else str(identity.name),
            spool_epoch=None if identity is None else identity.epoch,
            spool_problem=problem_of(self._process.data_root),
        )
