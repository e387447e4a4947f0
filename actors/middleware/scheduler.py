"""Write the row of the scheduler process (`periodiq actors`) into the table of processes.

Periodiq has no signal for its start. It enqueues a message each minute, so the row is written after the first
message.
"""

import dramatiq
from dramatiq.middleware import Middleware

from actors.queue.broker import EdgeBroker
from gateway.database.tables.processes import ProcessKind
from gateway.processes.heartbeat import Heartbeat, OwnProcess

SCHEDULED = "scheduled_at"
"""The option that periodiq gives to each message that it enqueues."""


class SchedulerHeartbeat(Middleware):
    """Begins to beat when this process enqueues a scheduled message; its connection is that of the queue."""

    def __init__(self) -> None:
        self._heartbeat: Heartbeat | None = None

    def after_enqueue(
        self, broker: EdgeBroker, message: dramatiq.Message[object], _delay: int | None
    ) -> None:
        """Start the thread at the first scheduled message."""
        if self._heartbeat is None and SCHEDULED in message.options:
            process = OwnProcess(ProcessKind.SCHEDULER, message.actor_name)
            self._heartbeat = Heartbeat(broker.database, process)
            self._heartbeat.start()
