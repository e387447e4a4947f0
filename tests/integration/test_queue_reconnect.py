"""A consumer that lost its connection keeps its running messages."""

from types import ModuleType
from typing import Any

import pytest
from support.queue_consumer import InProcess, come_back, cut_off
from support.queue_setup import QueueSetup
from support.waiting import wait_until

from gateway.database.tables import consumers, messages
from gateway.errors import DatabaseUnavailableError


def lose_the_answer(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> None:
    """Commit the next call of that statement, then lose the connection before the answer."""
    real = getattr(module, name)

    def run(*args: Any, **keywords: Any) -> Any:
        real(*args, **keywords)
        monkeypatch.setattr(module, name, real)
        raise DatabaseUnavailableError("server closed the connection unexpectedly")

    monkeypatch.setattr(module, name, run)


def test_a_running_message_is_adopted_with_its_delivery(queue: QueueSetup, consumer: InProcess) -> None:
    """Both rows get the new id, so a second message of the delivery finds it claimed by a live consumer."""
    queue.send("noop", 1)
    consumer.take(1)
    lost = consumer.liveness.consumer
    queue.run(CLAIMED_DELIVERY.format(lost))
    queue.run("UPDATE dramatiq.queue SET delivery_id = (SELECT id FROM deliveries)")
    cut_off(queue, consumer)
    found = come_back(consumer, lost or 0)
    assert queue.rows("SELECT state::text, claimed_by FROM deliveries") == [("in_flight", found)]
    assert queue.rows("SELECT consumer, deaths, started_at IS NULL FROM dramatiq.queue") == [
        (found, 0, False)
    ]


def test_a_delivery_that_nobody_runs_is_not_adopted(queue: QueueSetup, consumer: InProcess) -> None:
    """Its claim was committed, but the answer was lost: the old id is gone, so a retry may claim it."""
    queue.send("noop", 1)
    consumer.take(1)
    lost = cut_off(queue, consumer)
    queue.run(CLAIMED_DELIVERY.format(lost))
    come_back(consumer, lost)
    rows = queue.rows("SELECT claimed_by, dramatiq.consumer_alive(claimed_by) FROM deliveries")
    assert rows == [(lost, False)]


def test_an_adoption_whose_answer_was_lost_is_made_again(
    queue: QueueSetup, consumer: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows have an id that never got its lock.

    The consumer remembers that id, and no message counts as dead.
    """
    queue.send("noop", 1)
    [message] = consumer.take(1)
    lost = cut_off(queue, consumer)
    lose_the_answer(monkeypatch, consumers, "adopt")
    found = come_back(consumer, lost)
    assert queue.rows("SELECT consumer, deaths FROM dramatiq.queue") == [(found, 0)]
    consumer.consumer.ack(message)
    wait_until(lambda: queue.count() == 0, 5, "its ack to be written")


def test_a_claim_whose_answer_was_lost_counts_no_death(
    queue: QueueSetup, consumer: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consumer never got the message, so it did not start; the reaper releases it, and it runs."""
    queue.send("noop", 1)
    lose_the_answer(monkeypatch, messages, "claim")
    assert next(consumer.consumer) is None
    assert queue.count("state = 'consumed' AND started_at IS NOT NULL") == 1
    [message] = consumer.take(1)
    assert (message.deaths, message.args) == (0, (1,))


def test_a_death_counted_during_the_reconnect_is_undone(
    queue: QueueSetup, consumer: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reaper commits just before the adoption, which undoes that death."""
    queue.send("noop", 1)
    consumer.take(1)
    queue.run("UPDATE dramatiq.queue SET deaths = 2")
    adopt = consumers.adopt
    states: list[tuple[Any, ...]] = []

    def reaped_meanwhile(*args: Any, **keywords: Any) -> frozenset[messages.Run]:
        with queue.database.statement() as session:
            consumers.reap(session, [lost])
        states.extend(queue.rows("SELECT state::text, deaths FROM dramatiq.queue"))
        return adopt(*args, **keywords)

    monkeypatch.setattr(consumers, "adopt", reaped_meanwhile)
    lost = cut_off(queue, consumer)
    come_back(consumer, lost)
    assert states == [("rejected", 3)]
    assert queue.rows("SELECT state::text, deaths FROM dramatiq.queue") == [("queued", 2)]


CLAIMED_DELIVERY = """
INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,
    transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address, kind,
    file_name)
VALUES ('1.1', '1.2', '1.3', '1.4', '1.5', sha256('1'), 1, 'A', 'B', '127.0.0.1', 'original', '1.1.dcm');
INSERT INTO deliveries (instance_id, route, state, priority, claim_id, claimed_by, lease_until)
SELECT id, 'pacs', 'in_flight', 4, gen_random_uuid(), {}, now() + interval '1 hour' FROM instances
"""
