"""Count finished messages, and add the counts to PostgreSQL every few seconds, for `mini-pacs queue`.

No port is opened, and no message costs a query. If the process dies, the counts of its last FLUSH_SECONDS are
lost. They are only shown to operators; no decision depends on them.
"""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass

from dramatiq import Worker
from dramatiq.middleware import Middleware

from actors.queue.broker import EdgeBroker
from actors.queue.in_flight import InFlightMessage
from gateway.database.pool import Database
from gateway.database.tables import queues
from gateway.errors import DatabaseError

FLUSH_SECONDS = 5.0
FORGET_SECONDS = 3600.0
_Key = tuple[int, str, str]


@dataclass(slots=True)
class _Count:
    arrived: int = 0
    done: int = 0
    failed: int = 0
    seconds: float = 0.0


class Rates(Middleware):
    """Counts arrivals by the minute in which a message was due, endings by the minute in which it ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[_Key, _Count] = defaultdict(_Count)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_forget = 0.0

    def after_worker_boot(self, broker: EdgeBroker, _worker: Worker) -> None:
        """Start the thread that writes the counts, after the fork."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(broker.database,), name="rates", daemon=True)
        self._thread.start()

    def after_worker_shutdown(self, broker: EdgeBroker, _worker: Worker) -> None:
        """Write the last counts."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._flush(broker.database)

    def before_process_message(self, _broker: EdgeBroker, message: InFlightMessage) -> None:
        """Note when the message begins."""
        message.began = time.monotonic()

    def after_process_message(
        self,
        _broker: EdgeBroker,
        message: InFlightMessage,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        """Count the message."""
        del result
        seconds = time.monotonic() - message.began
        due, now = int(message.due.timestamp() // 60), int(time.time() // 60)
        with self._lock:
            count = self._counts[now, message.queue, message.actor]
            count.seconds += seconds
            if exception is None:
                count.done += 1
                # Count no arrival when it fails: a message that is retried stays in the queue and is counted
                # there.
                self._counts[due, message.queue, message.actor].arrived += 1
            else:
                count.failed += 1

    def _run(self, database: Database) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self._flush(database)

    def _flush(self, database: Database) -> None:
        with self._lock:
            counts, self._counts = self._counts, defaultdict(_Count)
        if not counts:
            return
        rates = [
            queues.ActorRate(*key, count.arrived, count.done, count.failed, count.seconds)
            for key, count in counts.items()
        ]
        try:
            with database.statement() as session:
                queues.count_rates(session, rates)
                if time.monotonic() > self._next_forget:
                    self._next_forget = time.monotonic() + FORGET_SECONDS
                    queues.forget_rates(session)
        except DatabaseError:
            # Safe: the counts are only shown. The consumer logs that PostgreSQL is away.
            return
