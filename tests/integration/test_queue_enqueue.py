"""How messages come into the queue: with their time in the row, in one round trip with what they are for."""

from collections.abc import Iterator

import pytest
from dramatiq import Message
from dramatiq.errors import ConnectionError as BrokerConnectionError
from launcher import Processes
from queue_bed import QueueBed

from actors.broker import EdgeBroker


@pytest.fixture
def bed(database_url: str, processes: Processes) -> Iterator[QueueBed]:
    """A queue without consumers."""
    bed = QueueBed(database_url, processes)
    yield bed
    bed.close()


def test_enqueue_with_a_delay_writes_a_due_time(bed: QueueBed) -> None:
    """No delay queue, no eta in the message; the same message enqueued twice is one."""
    broker = EdgeBroker(bed.dsn, middleware=[])
    message: Message[object] = Message("q", "noop", (1,), {}, {})
    broker.enqueue(message, delay=60_000)
    broker.enqueue(message, delay=60_000)
    [(queue_name, due_in)] = bed.rows("SELECT queue_name, due - now() FROM dramatiq.queue")
    assert queue_name == "q"
    assert 50 < due_in.total_seconds() < 61
    broker.close()


def test_enqueue_without_postgresql_says_so(bed: QueueBed) -> None:
    """With Dramatiq's ConnectionError, which its users know."""
    broker = EdgeBroker(bed.dsn.replace("?host=", "?host=/nowhere"), middleware=[])
    with pytest.raises(BrokerConnectionError, match="not enqueued"):
        broker.enqueue(Message("q", "noop", (), {}, {}))
    broker.close()
