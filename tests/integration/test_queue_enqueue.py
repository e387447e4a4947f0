"""Enqueuing: the due time is in the row, and one round trip writes messages with their cause."""

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import dramatiq
import pytest
from dramatiq import Message
from dramatiq.errors import ConnectionError as BrokerConnectionError
from support import statements
from support.queue_setup import QueueSetup
from support.waiting import wait_until

from actors.queue.broker import EdgeBroker
from gateway.database.connection import connect
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import instances, messages
from gateway.database.tables.instances import ReceivedInstance
from gateway.domain.instance import Kind
from gateway.domain.routing import Route, Target

RECEIVED = ReceivedInstance(
    reception_id=UUID(int=1),
    received_at=datetime(2026, 1, 1, tzinfo=UTC),
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
    targets=(Target(Route.PACS, "ORTHANC"), Target(Route.WORKERS, "default")),
    priority=4,
)


def test_enqueue_with_a_delay_writes_a_due_time(queue: QueueSetup) -> None:
    """There is no delay queue and no eta in the message; enqueuing a message twice leaves one row."""
    broker = EdgeBroker(queue.dsn, middleware=[])
    message: Message[object] = Message("q", "noop", (1,), {}, {})
    broker.enqueue(message, delay=60_000)
    broker.enqueue(message, delay=60_000)
    [(queue_name, due_in)] = queue.rows("SELECT queue_name, due - now() FROM dramatiq.queue")
    assert queue_name == "q"
    assert 50 < due_in.total_seconds() < 61
    broker.close()


def test_an_instance_with_its_two_deliveries_is_one_round_trip(
    queue: QueueSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is durable already: one statement writes the five rows and commits."""
    edge = Database(queue.dsn, application_name="test")
    with edge.statement() as session:
        session.script("SELECT 1")  # opens the connection
    sent = statements.noted(monkeypatch)
    with edge.statement() as session:
        instances.register(session, RECEIVED, window=timedelta(minutes=10))
    monkeypatch.undo()
    assert len(sent) == 1
    assert "BEGIN" not in sent[0]  # committed by itself: the rows are seen by another connection
    assert queue.rows("SELECT route::text, message_id IS NULL FROM deliveries ORDER BY 1") == [
        ("pacs", False),
        ("workers", False),
    ]
    assert queue.count("state = 'queued'") == 2
    edge.close()


def test_enqueue_without_postgresql_raises_connection_error(queue: QueueSetup) -> None:
    """Dramatiq's own ConnectionError, which its users handle."""
    broker = EdgeBroker(queue.dsn.replace("?host=", "?host=/nowhere"), middleware=[])
    with pytest.raises(BrokerConnectionError, match="not enqueued"):
        broker.enqueue(Message("q", "noop", (), {}, {}))
    broker.close()


def cyclic() -> list[object]:
    """Return a list that contains itself."""
    held: list[object] = []
    held.append(held)
    return held


REFUSED: dict[str, Message[object]] = {
    "a NUL": Message("q", "noop", ("a\0b",), {}, {}),
    "a NUL in a key": Message("q", "noop", (), {"a\0": 1}, {}),
    "half of a surrogate pair": Message("q", "noop", ("\ud800",), {}, {}),
    "NaN": Message("q", "noop", (float("nan"),), {}, {}),
    "infinity": Message("q", "noop", (float("inf"),), {}, {}),
    "a cycle": Message("q", "noop", (cyclic(),), {}, {}),
    "a number too long": Message("q", "noop", (10**5000,), {}, {}),
    "too large": Message("q", "noop", ("x" * (5 << 20),), {}, {}),
    "no UUID": Message("q", "noop", (), {}, {}, message_id="7"),
    "no id": Message("q", "noop", (), {}, {}, message_id=None),  # type: ignore[arg-type]
    "no options": Message("q", "noop", (), {}, None),  # type: ignore[arg-type]
    "no actor": Message("q", None, (), {}, {}),  # type: ignore[arg-type]
    "a NUL in the queue": Message("q\0", "noop", (), {}, {}),
    "half of a surrogate pair in the queue": Message("q\udc00", "noop", (), {}, {}),
    "no queue": Message("", "noop", (), {}, {}),
    "an eta that is no number": Message("q", "noop", (), {}, {"eta": "tomorrow"}),
    "an eta that never comes": Message("q", "noop", (), {}, {"eta": float("inf")}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_invalid_message_raises_value_error(queue: QueueSetup, name: str) -> None:
    """After Dramatiq's ConnectionError the caller would retry for ever."""
    broker = EdgeBroker(queue.dsn, middleware=[])
    with pytest.raises(ValueError, match="cannot be") as raised:
        broker.enqueue(REFUSED[name])
    assert not isinstance(raised.value, BrokerConnectionError)
    assert queue.count() == 0
    broker.close()


@pytest.mark.parametrize("delay", [float("nan"), float("inf"), 10**18])
def test_an_invalid_delay_raises_value_error(queue: QueueSetup, delay: int) -> None:
    """Nothing is enqueued, and the broker still works."""
    broker = EdgeBroker(queue.dsn, middleware=[])
    with pytest.raises(ValueError, match="its delay"):
        broker.enqueue(Message("q", "noop", (), {}, {}), delay=delay)
    broker.enqueue(Message("q", "noop", (), {}, {}), delay=-5)
    assert queue.count("due <= now()") == 1
    broker.close()


def test_a_temporary_error_raises_connection_error(queue: QueueSetup) -> None:
    """A lock timeout, for instance: the same message may be enqueued later."""
    queue.run("ALTER TABLE dramatiq.queue RENAME TO elsewhere")
    broker = EdgeBroker(queue.dsn, middleware=[])
    with pytest.raises(BrokerConnectionError, match="not enqueued"):
        broker.enqueue(Message("q", "noop", (), {}, {}))
    broker.close()


def test_an_eta_is_the_due_time(queue: QueueSetup) -> None:
    """In milliseconds since 1970.

    It is not in the document, since Dramatiq would hold such a message in memory.
    """
    broker = EdgeBroker(queue.dsn, middleware=[])
    broker.enqueue(Message("q", "noop", (), {}, {"eta": (time.time() + 3600) * 1000, "kept": 1}))
    [(due_in, options)] = queue.rows("SELECT due - now(), message -> 'options' FROM dramatiq.queue")
    assert 3500 < due_in.total_seconds() < 3601
    assert options == {"kept": 1}
    broker.close()


def test_the_priority_of_an_actor_is_that_of_its_messages(queue: QueueSetup) -> None:
    """The smallest number runs first, as in Dramatiq, but over the whole queue and not only in memory."""
    broker = EdgeBroker(queue.dsn, middleware=[])
    for name, priority in (("last", 3), ("middle", 0), ("first", -4)):
        dramatiq.actor(actor_name=name, queue_name="q", priority=priority, broker=broker)(lambda: None).send()
    rows = queue.rows("SELECT message ->> 'actor_name', priority FROM dramatiq.queue ORDER BY priority")
    assert rows == [("first", 0), ("middle", 4), ("last", 7)]
    for priority in (-5, 4, 100):
        with pytest.raises(ValueError, match="is not supported"):
            dramatiq.actor(actor_name="no", queue_name="q", priority=priority, broker=broker)(lambda: None)
    broker.close()


@pytest.mark.parametrize("name", ["x" * 47, "ä" * 30, "q" * 500, "x" * 46])
def test_a_queue_with_a_long_name_is_woken(queue: QueueSetup, name: str) -> None:
    """Channel names of PostgreSQL end at 63 bytes: LISTEN cuts them silently, NOTIFY refuses them."""
    listener = connect(queue.dsn, application_name="test", deadline_seconds=10)
    messages.listen(Session(listener), [name])
    broker = EdgeBroker(queue.dsn, middleware=[])
    broker.declare_queue(name)
    broker.enqueue(Message(name, "noop", (), {}, {}))

    def heard() -> bool:
        listener.poll()
        return bool(listener.notifies)

    wait_until(heard, 10, "the NOTIFY")
    assert listener.notifies[0].channel == messages.channel(name)
    broker.close()
    listener.close()


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", None])
def test_a_queue_with_an_invalid_name_is_not_declared(queue: QueueSetup, name: str) -> None:
    """The error is a ValueError at the declaration, not at the first message."""
    broker = EdgeBroker(queue.dsn, middleware=[])
    with pytest.raises(ValueError, match="no name of a queue"):
        broker.declare_queue(name)
    broker.close()
