"""A consumer in the test's own process, without Dramatiq around it."""

from queue_bed import QUEUE
from waiting import wait_until

from actors.ack import AckWriter
from actors.capacity import Capacity
from actors.consumer import EdgeConsumer
from actors.held import Held, HeldMessage
from actors.liveness import Liveness


class InProcess:
    """A consumer without Dramatiq around it."""

    def __init__(self, dsn: str, threads: int = 8) -> None:
        self.held = Held()
        self.capacity = Capacity(threads)
        self.liveness = Liveness(dsn, held=self.held, threads=threads)
        self.acks = AckWriter(dsn)
        self.consumer = EdgeConsumer(
            QUEUE, liveness=self.liveness, capacity=self.capacity, held=self.held, acks=self.acks
        )

    def take(self, count: int) -> list[HeldMessage]:
        """That many messages."""
        taken: list[HeldMessage] = []

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
        """As if the last messages had ended at once, however slow this machine is just now."""
        for _ in range(100):
            self.consumer._pace.note(0.0)

    def close(self) -> None:
        """As at the end of a process."""
        self.consumer.close()
        self.acks.close()
        self.liveness.close()
