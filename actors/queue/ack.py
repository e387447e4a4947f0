"""Settles finished messages in batches, from one thread, so that no actor thread ever waits for it.

Dramatiq sleeps five seconds per thread when an ack raises, so `settle` raises nothing: endings are queued
here and written as soon as PostgreSQL takes them, in as few statements as there are. At most as many can wait
as the process has threads, because a process without PostgreSQL claims nothing.

If the process dies with endings unwritten, their messages are freed by the reaper and run again, which the
delivery's own state makes harmless. For the same reason this connection commits without waiting for the disk.
"""

import os
import signal
import threading
from collections import defaultdict
from time import monotonic

from actors.queue.in_flight import EndingKind, InFlightMessage
from gateway import log
from gateway.database.connection import Connection, connect
from gateway.database.session import DedicatedSession, Session
from gateway.database.tables import messages
from gateway.errors import DatabaseUnavailableError
from gateway.log import Stage

DEADLINE_SECONDS = 5.0
"""For one batch; must exceed what PostgreSQL takes for one under load."""

RETRY_SECONDS = 0.5
"""Between attempts while PostgreSQL is away."""

CLOSE_SECONDS = 5.0
"""What `close` waits for the last batch; what is not written by then is run again by somebody."""


class AckWriter:
    """The batching writer of one process."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._condition = threading.Condition()
        self._waiting: list[InFlightMessage] = []
        self._closed_at: float | None = None
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="ack", daemon=True)
        self._thread.start()

    def settle(self, message: InFlightMessage) -> None:
        """The ending of a message that was released will be written. Never blocks nor raises."""
        with self._condition:
            self._waiting.append(message)
            self._condition.notify()

    def close(self) -> None:
        """What waits is written, if PostgreSQL takes it within CLOSE_SECONDS."""
        with self._condition:
            self._closed_at = monotonic()
            self._condition.notify()
        self._thread.join(CLOSE_SECONDS + DEADLINE_SECONDS)

    def _run(self) -> None:
        try:
            self._write_batches()
        except Exception as error:  # noqa: BLE001  the boundary of this thread
            # Without acks every message would be held for ever: let the supervisor start anew.
            log.write(Stage.QUEUE, "ack_failed", level="error", error=f"{type(error).__name__}: {error}")
            os.kill(os.getpid(), signal.SIGTERM)

    def _write_batches(self) -> None:
        while batch := self._next_batch():
            while not self._write(batch):
                with self._condition:
                    self._condition.wait(RETRY_SECONDS)
                if self._closed_at is not None and monotonic() - self._closed_at > CLOSE_SECONDS:
                    break
        if self._connection is not None:
            self._connection.close()

    def _next_batch(self) -> list[InFlightMessage]:
        with self._condition:
            while not self._waiting and self._closed_at is None:
                self._condition.wait()
            batch, self._waiting = self._waiting, []
            return batch

    def _write(self, batch: list[InFlightMessage]) -> bool:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect(
                    self._dsn, application_name="mini-pacs ack", deadline_seconds=DEADLINE_SECONDS
                )
                messages.relax_durability(DedicatedSession(self._connection))
            _settle(DedicatedSession(self._connection), batch)
        except DatabaseUnavailableError as error:
            # Safe: a batch is repeated whole, and what was settled already matches no row any more.
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            log.write(
                Stage.QUEUE,
                "ack_delayed",
                level="warning",
                count=len(batch),
                error=str(error),
            )
            return False
        return True


def _settle(session: Session, batch: list[InFlightMessage]) -> None:
    finished: dict[int, list[messages.Run]] = defaultdict(list)
    unstarted: dict[int, list[messages.Run]] = defaultdict(list)
    for message in batch:
        ending = message.ending
        match ending.verdict:
            case EndingKind.FINISHED:
                finished[message.consumer].append(message.run)
            case EndingKind.UNSTARTED:
                unstarted[message.consumer].append(message.run)
            case EndingKind.RETRY:
                messages.retry(
                    session,
                    message.run,
                    message.consumer,
                    delay=ending.delay,
                    counted=ending.counted,
                    reason=ending.reason,
                )
            case EndingKind.DEAD:
                messages.dead_letter(session, message.run, message.consumer, reason=ending.reason)
    for consumer, runs in finished.items():
        messages.finish(session, runs, consumer)
    for consumer, runs in unstarted.items():
        messages.give_back(session, runs, consumer)
