"""A consumer in the test's own process, without Dramatiq."""

from actors.queue.ack import AckWriter
from actors.queue.capacity import Capacity
from actors.queue.consumer import EdgeConsumer
from actors.queue.in_flight import InFlightMessage, InFlightMessages
from actors.queue.liveness import Liveness
from support.queue_setup import QUEUE, QueueSetup
from support.waiting import wait_until


class InProcess:
    """A consumer without Dramatiq."""

    def __init__(self, dsn: str, threads: int = 8) -> None:
        self.in_flight = InFlightMessages()
        self.capacity = Capacity(threads)
        self.liveness = Liveness(dsn, in_flight=self.in_flight, threads=threads)
        self.acks = AckWriter(dsn)
        self.consumer = EdgeConsumer(
            QUEUE, liveness=self.liveness, capacity=self.capacity, in_flight=self.in_flight, acks=self.acks
        )

    def take(self, count: int) -> list[InFlightMessage]:
        """Claim that many messages."""
        taken: list[InFlightMessage] = []

        def enough() -> bool:
            if len(taken) == count:
                return True
            message = next(self.consumer)
            if message is not None:
                taken.append(message)
            return len(taken) == count

        wait_until(enough, 10, "the messages")
        return taken

    def be_quick(self) -> None:
        """Act as if the last messages had ended at once, even on a slow machine."""
        for _ in range(100):
            self.consumer._prefetch.note(0.0)

    def close(self) -> None:
        """Close it, as a process does at its end."""
        self.consumer.close()
        self.acks.close()
        self.liveness.close()


def cut_off(queue: QueueSetup, consumer: InProcess) -> int:
    """Drop the consumer's connection; return the id that it had."""
    lost = consumer.liveness.consumer
    assert lost is not None
    queue.rows(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'mini-pacs consumer'"
    )
    return lost


def come_back(consumer: InProcess, lost: int) -> int:
    """Reconnect; return the new id."""
    wait_until(
        lambda: next(consumer.consumer) is None and consumer.liveness.consumer not in {None, lost},
        10,
        "a new id",
    )
    assert consumer.liveness.consumer is not None
    return consumer.liveness.consumer
