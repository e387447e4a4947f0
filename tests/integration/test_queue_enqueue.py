"""How messages come into the queue: with their time in the row, in one round trip with what they are for."""

from datetime import timedelta

import pytest
import statements
from dramatiq import Message
from dramatiq.errors import ConnectionError as BrokerConnectionError
from queue_bed import QueueBed

from actors.broker import EdgeBroker
from gateway.dicom.header import Header
from gateway.domain.instance import Kind
from gateway.domain.routing import Route
from gateway.receive.commit import Committer
from gateway.store.database import Database
from gateway.store.instances import Received

RECEIVED = Received(
    sop_instance_uid="1.2.3.1",
    study_instance_uid="1.2.3.2",
    series_instance_uid="1.2.3.3",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    sha256=bytes(32),
    data_set_size=1,
    calling_ae_title="A",
    called_ae_title="B",
    remote_address="127.0.0.1",
    kind=Kind.ORIGINAL,
    file_name="1.2.3.1.dcm",
    routes=(Route.PACS, Route.WORKERS),
    priority=4,
)
HEADER = Header("1.2.840.10008.5.1.4.1.1.7", "1.2.3.1", "1.2.3.2", "1.2.3.3", "OT", "", (), ())


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


def test_an_instance_with_its_two_deliveries_is_one_round_trip(
    bed: QueueBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is durable already: one statement writes the five rows and commits; nothing else is sent."""
    edge = Database(bed.dsn, application_name="test")
    committer = Committer(edge, window=timedelta(minutes=10))
    with edge.statement() as session:
        session.script("SELECT 1")  # it is connected
    sent = statements.noted(monkeypatch)
    committer.commit(RECEIVED, HEADER)
    monkeypatch.undo()
    assert len(sent) == 1
    assert "BEGIN" not in sent[0]  # committed by itself: the rows are seen by another connection
    assert bed.rows("SELECT route::text, message_id IS NULL FROM deliveries ORDER BY 1") == [
        ("pacs", False),
        ("workers", False),
    ]
    assert bed.count("state = 'queued'") == 2
    edge.close()


def test_enqueue_without_postgresql_says_so(bed: QueueBed) -> None:
    """With Dramatiq's ConnectionError, which its users know."""
    broker = EdgeBroker(bed.dsn.replace("?host=", "?host=/nowhere"), middleware=[])
    with pytest.raises(BrokerConnectionError, match="not enqueued"):
        broker.enqueue(Message("q", "noop", (), {}, {}))
    broker.close()
