"""The thread of a receiver process that registers what the process has received.

A reception is handed over when its file is durable, just before Success is answered. The thread registers all
waiting receptions in one batch, in the order of `gateway.register.waiting`. Originals come before results. It
pauses after each batch, for at most LONG_GATHER_SECONDS. If no pause is running, it registers at once.

While PostgreSQL is away (`gateway.register.postgres_state`), receivers still acknowledge, and the links wait.
While it answers and the oldest reception waits longer than BEHIND_SECONDS, a sender waits up to
MAX_WAIT_SECONDS for its Success, so that the backlog cannot grow without end.

If the thread ends, the process ends, so that the parent starts another one.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

from gateway import log
from gateway.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    FileMissingError,
    GatewayError,
    SchemaError,
    SpoolError,
)
from gateway.log import Stage
from gateway.register.other_receivers import OtherReceivers
from gateway.register.postgres_state import PostgresState, is_away
from gateway.register.recovery import Recovery
from gateway.register.registration import MAX_BATCH, Registration
from gateway.register.siblings import waits_for_other_version
from gateway.register.unregistered import Unregistered
from gateway.register.waiting import WaitingReceptions
from gateway.spool.partial import SUFFIX
from gateway.spool.spool import Spool

BACKLOG_SHARE = 16
"""How many receptions of the backlog are added to a batch that also has new ones."""
BEHIND_SECONDS = 1.0
MAX_WAIT_SECONDS = 1.0
FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 2.0
GATHER_SECONDS = 0.015
"""The pause after a batch of MANY. After a smaller one it is at least as long as that took, at most this."""
MANY = 4
"""At lower rates a longer pause would save little, and each reception would wait for it."""
SLOW_SECONDS = 0.004
"""After a batch of fewer than MANY that took longer than this, the pause is three times as long as it took:
the machine or the database is slow, and a larger batch costs less for each reception."""
LONG_GATHER_SECONDS = 0.04
"""The pause after a batch of VERY_MANY."""
VERY_MANY = 12
"""So many come in GATHER_SECONDS at 800 a second. The actors send fewer, so their backlog hides the pause."""
DEFERRED_SECONDS = 0.05
"""The pause before the next try of a reception that waits for another version, or was refused."""
ROW_BYTES = 8192
"""What the rows of one reception and their log cost PostgreSQL on the disk, measured with 100,000."""


class Registrar:
    """Registers receptions after their answer. Other threads call its public methods."""

    def __init__(
        self,
        registration: Registration,
        recovery: Recovery,
        spool: Spool,
        *,
        prepare: Callable[[], None],
        max_hours: float,
    ) -> None:
        self.max_hours = max_hours
        self._registration = registration
        self._recovery = recovery
        self._spool = spool
        self._prepare = prepare
        self._others = OtherReceivers(spool)
        self._postgres = PostgresState(spool)
        self._changed = threading.Condition()
        self._waiting = WaitingReceptions()
        self._recovered: Iterator[Unregistered] | None = None
        self._batch_since: float | None = None
        self._oldest: float | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="registrar", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Register waiting receptions for at most `seconds`; leave the rest to the next process."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(seconds)

    # ---- for associations ------------------------------------------------------------------------

    def why_refused(self) -> str:
        """Return why nothing may be received now; empty if it may."""
        return self._postgres.why_refused(self.max_hours)

    def submit(self, one: Unregistered) -> None:
        """Take over a reception whose file is durable."""
        with self._changed:
            self._waiting.add(one)
            if self._oldest is None:
                self._oldest = one.arrived
            self._changed.notify_all()

    def wait_if_behind(self) -> None:
        """Wait up to MAX_WAIT_SECONDS while PostgreSQL answers and registration is behind reception."""
        limit = monotonic() + MAX_WAIT_SECONDS
        with self._changed:
            while self._is_behind() and (left := limit - monotonic()) > 0:
                self._changed.wait(min(left, 0.1))

    def unregistered_bytes(self) -> int:
        """Return how many bytes PostgreSQL will need for the unregistered receptions of all receivers."""
        count = len(self._waiting)
        if self._postgres.away:
            count += self._others.unregistered()
        return count * ROW_BYTES

    def _is_behind(self) -> bool:
        if self._postgres.away or self._stopping or self._oldest is None:
            return False
        now = monotonic()
        if self._batch_since is not None and now - self._batch_since > BEHIND_SECONDS:
            return False  # PostgreSQL does not answer
        return now - self._oldest > BEHIND_SECONDS

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._connect()
            self._recovered = self._left_by_others()
            while batch := self._next_batch():
                began = monotonic()
                self._register(batch)
                # Under load the next batch is larger, and costs less for each reception. When few come, the
                # pause has ended before the next one.
                time.sleep(_gather_seconds(len(batch), took=monotonic() - began))
        except BaseException as error:  # noqa: BLE001  the boundary of the thread
            try:
                log.write(
                    Stage.QUEUE,
                    "registrar_failed",
                    level="error",
                    error=f"unforeseen {type(error).__name__}",
                    detail=log.frames(error),
                )
            finally:
                os._exit(1)  # the parent starts another receiver, which registers what is left

    def _connect(self) -> None:
        """Call `prepare` until it succeeds, with growing pauses; or until the process stops."""
        wait = FIRST_RETRY_SECONDS
        while not self._stopping:
            try:
                self._prepare()
            except GatewayError as error:
                self._note_failure(error, wait)
                self._pause(wait)
                wait = min(wait * 2, LONGEST_RETRY_SECONDS)
            else:
                self._note_success()
                return

    def _left_by_others(self) -> Iterator[Unregistered]:
        yield from self._recovery.of_the_refused()
        yield from self._recovery.of_the_dead()

    def _next_batch(self) -> list[Unregistered]:
        """Wait for receptions and return the next batch; an empty one ends the thread."""
        while True:
            with self._changed:
                while not self._has_work():
                    self._oldest = None
                    if self._stopping:
                        return []
                    self._changed.wait()
                if self._stopping:
                    if self._postgres.away:
                        return []
                    self._recovered = None  # the backlog of others is left to the next process
                batch = self._waiting.take_new()
                # Not that of a deferred one, for which no sender waits.
                self._oldest = min((one.arrived for one in batch), default=None)
                batch += self._waiting.take_deferred(BACKLOG_SHARE if batch else MAX_BATCH)
            batch += self._from_backlog(BACKLOG_SHARE if batch else MAX_BATCH)
            ready = []
            for one in batch:
                if waits_for_other_version(self._spool, one):
                    self._waiting.defer([one])
                else:
                    ready.append(one)
            if ready:
                return ready
            if self._stopping and not any(self._waiting.numbers):
                return []
            self._pause(DEFERRED_SECONDS)

    def _has_work(self) -> bool:
        return len(self._waiting) > 0 or self._recovered is not None

    def _from_backlog(self, most: int) -> list[Unregistered]:
        found: list[Unregistered] = []
        with self._changed:
            numbers = self._waiting.take_numbers(most)
        for number in numbers:
            found += self._examined(self._spool.receiver / f"{number:08x}{SUFFIX}")
        while self._recovered is not None and len(found) < most:
            one = next(self._recovered, None)
            if one is None:
                self._recovered = None
            else:
                found.append(one)
        return found

    def _examined(self, link: Path) -> list[Unregistered]:
        try:
            one = self._recovery.examine(link, is_durable=True)
        except (FileMissingError, FileNotFoundError):
            return []  # the sweep has registered it
        except (SpoolError, OSError) as error:
            # Its link stays: the sweep tries it again.
            log.write(Stage.QUEUE, "not_recovered", level="error", error=str(error))
            return []
        return [] if one is None else [one]

    def _register(self, batch: list[Unregistered]) -> None:
        """Register a batch; repeat it until PostgreSQL has answered, or the process stops."""
        wait = FIRST_RETRY_SECONDS
        left = batch
        while left:
            try:
                self._batch_since = monotonic()
                refused = self._registration.register(left)
            except DatabaseError as error:
                self._batch_since = None
                pause = LONGEST_RETRY_SECONDS  # an operator has to mend it
                if isinstance(error, DatabaseUnavailableError):
                    pause, wait = wait, min(wait * 2, LONGEST_RETRY_SECONDS)
                self._note_failure(error, pause)
                if self._stopping:
                    return
                self._pause(pause)
                left = [one for one in left if not one.is_done]
                continue
            self._batch_since = None
            self._note_success()
            left = []
            if refused and not self._stopping:  # else they are left to the next process
                self._waiting.defer(refused)
                if any(one.refusals for one in refused):
                    self._pause(DEFERRED_SECONDS)
        with self._changed:
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        with self._changed:
            if not self._stopping:
                self._changed.wait_for(lambda: self._stopping, seconds)

    def _note_failure(self, error: GatewayError, wait: float) -> None:
        with self._changed:
            self._postgres.note_failure(error)
            self._changed.notify_all()
        log.write(
            Stage.DB,
            "refused" if isinstance(error, SchemaError) else "waiting",
            level="warning" if is_away(error) else "error",
            error=str(error),
            next_in_seconds=wait,
        )

    def _note_success(self) -> None:
        if self._postgres.away:
            with self._changed:
                self._postgres.note_success()
                self._changed.notify_all()


def _gather_seconds(count: int, *, took: float) -> float:
    """Return the pause after a batch of `count` receptions that took so many seconds."""
    if count >= MAX_BATCH:
        return 0.0  # the next batch waits already
    if count >= VERY_MANY:
        return LONG_GATHER_SECONDS
    if count >= MANY:
        return GATHER_SECONDS
    return min(3 * took if took > SLOW_SECONDS else took, GATHER_SECONDS)
