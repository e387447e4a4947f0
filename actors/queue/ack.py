"""Write the endings of messages in batches, from one thread, so that no actor thread waits for PostgreSQL.

If an ack raises, Dramatiq lets the thread sleep for five seconds. So `settle` raises nothing: it queues the
ending, and the thread writes all queued endings in as few statements as possible. No more endings wait than
the process has threads, because a process without PostgreSQL claims nothing.

An actor may leave the outcome of its delivery in the message (`settling`). `settle`, which the actors give,
then records the outcomes of a batch and deletes their messages in one statement. A single ending is delayed
for GATHER_SECONDS at most. While one batch is written, the next one gathers; after a batch of several it
gathers a little longer, because a statement for many costs little more than one for two.

If the process dies with endings unwritten, a reaper frees their messages, and they run again. That is
harmless, because an actor looks at the state of the delivery first. An unwritten outcome is lost, too: the
archive gets that instance twice (G4). This connection does not wait for the disk, because a lost
ending only makes a message run again.
"""

import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from time import monotonic, sleep

from actors.queue.in_flight import EndingKind, InFlightMessage
from gateway import log
from gateway.database.connection import Connection, connect
from gateway.database.session import DedicatedSession, Session
from gateway.database.tables import messages
from gateway.errors import DatabaseUnavailableError
from gateway.log import Stage

DEADLINE_SECONDS = 5.0
"""For one statement; must exceed the time of a batch under load."""

RETRY_SECONDS = 0.5
"""Between attempts while PostgreSQL is away. The reaper frees messages after RECONNECT_GRACE_SECONDS, which
must be longer."""

GATHER_SECONDS = 0.004
"""The pause after a batch of several. Their messages keep their slots meanwhile, so a longer one would leave
threads idle."""

CLOSE_SECONDS = 5.0
"""How long `close` waits for the last batch. Messages whose endings are not written by then run again."""


SettleTogether = Callable[[Sequence[InFlightMessage]], None]
"""Records the outcomes in messages, and sets their endings: UNSTARTED where the message must run again.

Raises DatabaseUnavailableError if it is to be called again."""


class AckWriter:
    """The writer of one process, with its thread and its connection."""

    def __init__(self, dsn: str, *, settle: SettleTogether | None = None) -> None:
        self._dsn = dsn
        self._settle_together = settle
        self._condition = threading.Condition()
        self._waiting: list[InFlightMessage] = []
        self._closed_at: float | None = None
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="ack", daemon=True)
        self._thread.start()

    def settle(self, message: InFlightMessage) -> None:
        """Queue the ending of a message that is no longer in flight. Never blocks, never raises."""
        with self._condition:
            self._waiting.append(message)
            self._condition.notify()

    def close(self) -> None:
        """Write the waiting endings, within CLOSE_SECONDS, and end the thread."""
        with self._condition:
            self._closed_at = monotonic()
            self._condition.notify()
        self._thread.join(CLOSE_SECONDS + DEADLINE_SECONDS)

    def _run(self) -> None:
        try:
            self._write_batches()
        except Exception as error:  # noqa: BLE001  the boundary of this thread
            # Without acks this process would hold every message for ever. Let the supervisor start a new
            # process.
            log.write(Stage.QUEUE, "ack_failed", level="error", error=f"{type(error).__name__}: {error}")
            os.kill(os.getpid(), signal.SIGTERM)

    def _write_batches(self) -> None:
        while batch := self._next_batch():
            while not self._write(batch):
                with self._condition:
                    self._condition.wait(RETRY_SECONDS)
                if self._closed_at is not None and monotonic() - self._closed_at > CLOSE_SECONDS:
                    break
            for message in batch:
                if message.when_written is not None:
                    message.when_written()
            if len(batch) > 1 and self._closed_at is None:
                sleep(GATHER_SECONDS)
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
            if outcomes := [message for message in batch if message.settling is not None]:
                assert self._settle_together is not None, "only then an actor leaves an outcome"
                self._settle_together(outcomes)
            if all(message.ending.kind is EndingKind.SETTLED for message in batch):
                return True
            if self._connection is None or self._connection.closed:
                self._connection = connect(
                    self._dsn,
                    application_name="mini-pacs ack",
                    deadline_seconds=DEADLINE_SECONDS,
                    prepares=True,
                )
                messages.relax_durability(DedicatedSession(self._connection))
            _settle(DedicatedSession(self._connection), batch)
        except DatabaseUnavailableError as error:
            # Safe: the whole batch is repeated, and endings that were written match no row any more.
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
    if held := [delivery for message in batch for delivery in message.deliveries_to_release()]:
        # Before the messages: the next claim of a message must find its delivery pending.
        messages.release(session, held)
    for message in batch:
        ending = message.ending
        match ending.kind:
            case EndingKind.SETTLED:
                pass  # its message was deleted together with the outcome
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
