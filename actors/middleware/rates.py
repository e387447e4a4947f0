"""Count finished messages, for `mini-pacs queue`. No port is opened, and no message costs a query.

If the process dies, the counts of its last seconds are lost (gateway/database/counting.py). They are only
shown to operators; no decision depends on them.
"""

import time
from datetime import UTC, datetime
from functools import lru_cache

from dramatiq import Worker
from dramatiq.middleware import Middleware

from actors.queue.broker import EdgeBroker
from actors.queue.in_flight import InFlightMessage
from gateway.database.counting import Counting, Flusher, Series, minute_of, series_of
from gateway.database.tables import counters


class Rates(Middleware):
    """Counts arrivals by the minute in which a message was due, endings by the minute in which it ended."""

    def __init__(self) -> None:
        self._counting = Counting()
        self._flusher: Flusher | None = None

    def after_worker_boot(self, broker: EdgeBroker, _worker: Worker) -> None:
        """Start the thread that writes the counts, after the fork."""
        self._counting = Counting()
        self._flusher = Flusher(lambda: self._counting.flush(broker.database))
        self._flusher.start()

    def after_worker_shutdown(self, _broker: EdgeBroker, _worker: Worker) -> None:
        """Write the last counts."""
        if self._flusher is not None:
            self._flusher.stop()

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
        ended = minute_of(datetime.now(UTC))
        seconds, failed, done, arrived = _series_of(message.queue, message.actor)
        counts = [(seconds, time.monotonic() - message.began, ended)]
        if exception is None:
            # Count no arrival when it fails: a message that is retried stays in the queue and is counted
            # there.
            counts += [(done, 1, ended), (arrived, 1, minute_of(message.due))]
        else:
            counts.append((failed, 1, ended))
        self._counting.add_each(counts)


@lru_cache
def _series_of(queue: str, actor: str) -> list[Series]:
    """Return the counters of an actor; they are needed for each message."""
    labels = {"queue": queue, "actor": actor}
    names = (
        counters.MESSAGE_SECONDS,
        counters.MESSAGES_FAILED,
        counters.MESSAGES_DONE,
        counters.MESSAGES_ARRIVED,
    )
    return [series_of(name, labels) for name in names]
