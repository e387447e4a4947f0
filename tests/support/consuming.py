"""A consumer of one queue in the test's own process."""

from datetime import timedelta

from actors.queue.ack import AckWriter
from actors.queue.capacity import Capacity
from actors.queue.consumer import EdgeConsumer
from actors.queue.in_flight import InFlightMessage, InFlightMessages
from actors.queue.liveness import Liveness
from gateway.database.tables.messages import DeliveryTerms, Terms
from support.waiting import wait_until

OF_THE_PACS = DeliveryTerms("ORTHANC", timedelta(seconds=60))


class Consuming:
    """A consumer of `queue`, which claims deliveries by `terms`."""

    def __init__(
        self, dsn: str, terms: Terms | None = OF_THE_PACS, threads: int = 4, *, queue: str = "pacs"
    ) -> None:
        self.terms = terms
        in_flight = InFlightMessages()
        self.liveness = Liveness(dsn, in_flight=in_flight, threads=threads)
        self.acks = AckWriter(dsn)
        self.consumer = EdgeConsumer(
            queue,
            liveness=self.liveness,
            capacity=Capacity(threads),
            in_flight=in_flight,
            acks=self.acks,
            terms=lambda: self.terms,
        )

    def take(self, count: int) -> list[InFlightMessage]:
        """Claim that many messages."""
        taken: list[InFlightMessage] = []

        def enough() -> bool:
            if len(taken) < count and (message := next(self.consumer)) is not None:
                taken.append(message)
            return len(taken) == count

        wait_until(enough, 10, "the messages")
        return taken

    def close(self) -> None:
        """Close it, as a process does at its end."""
        self.consumer.close()
        self.acks.close()
        self.liveness.close()
