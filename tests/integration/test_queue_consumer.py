"""One consumer: which messages it claims, when it starts them, and how they end."""

import json
from uuid import UUID

import pytest
from support.queue_consumer import InProcess
from support.queue_setup import QUEUE, QueueSetup
from support.waiting import wait_until

ROOM = """
CREATE OR REPLACE FUNCTION dramatiq.room(queue_name text, wanted integer) RETURNS integer
LANGUAGE sql STABLE AS 'SELECT {}'
"""


def test_a_message_due_before_the_claim_floor_overtakes_the_backlog(
    queue: QueueSetup, consumer: InProcess
) -> None:
    """It is a retry, or a late commit, while the consumer works through a backlog of later messages."""
    queue.fill("noop", 1_000)
    for message in consumer.take(8):
        consumer.consumer.ack(message)
    early = queue.send("noop", 0, delay_seconds=-3600)
    seen: list[str] = []

    def found() -> bool:
        [message] = consumer.take(1)
        consumer.consumer.ack(message)
        seen.append(message.id)
        return message.id == early

    wait_until(found, 15, "the early one")
    assert queue.count() > 0


def test_a_late_ack_deletes_nothing(queue: QueueSetup, consumer: InProcess) -> None:
    """A message that was released and claimed by another consumer is not changed when we finish it."""
    queue.send("noop", 1)
    [message] = consumer.take(1)
    queue.run("UPDATE dramatiq.queue SET consumer = 4711")
    consumer.consumer.ack(message)
    queue.send("noop", 2)
    [second] = consumer.take(1)
    consumer.consumer.ack(second)
    wait_until(lambda: queue.count() == 1, 5, "the second to be gone")
    assert queue.count("state = 'consumed' AND consumer = 4711") == 1


def test_no_more_is_claimed_than_there_are_threads(queue: QueueSetup, consumer: InProcess) -> None:
    """A thread that becomes free is used at once."""
    queue.fill("noop", 20)
    taken = consumer.take(8)
    assert next(consumer.consumer) is None
    assert queue.count("state = 'consumed'") == 8
    consumer.consumer.ack(taken[0])
    assert len(consumer.take(1)) == 1


def test_messages_are_claimed_ahead_while_they_end_quickly(queue: QueueSetup, consumer: InProcess) -> None:
    """At most as many as there are threads, in order; each starts only when a thread is idle."""
    queue.fill("noop", 40, delay_seconds=-60, spread_seconds=40)
    taken = consumer.take(8)
    for message in taken:
        consumer.consumer.ack(message)
    running = consumer.take(8)
    consumer.consumer.ack(running[0])
    consumer.be_quick()
    running.append(*consumer.take(1))
    wait_until(lambda: queue.count("state = 'consumed'") == 15, 5, "the acks")  # 8 run, 7 are claimed ahead
    numbers = [message.args[0] for message in [*taken, *running]]
    assert numbers == list(range(1, 18))


def test_messages_claimed_ahead_are_released_while_all_threads_hang(
    queue: QueueSetup, consumer: InProcess
) -> None:
    """Another consumer runs them; no failure and no death is counted."""
    queue.fill("noop", 40)
    for message in consumer.take(8):
        consumer.consumer.ack(message)
    running = consumer.take(8)
    consumer.consumer.ack(running.pop())
    consumer.be_quick()
    consumer.take(1)
    assert next(consumer.consumer) is None
    wait_until(lambda: queue.count("state = 'consumed'") == 8, 5, "the others to be given back")
    assert next(consumer.consumer) is None  # and none is claimed ahead again
    assert queue.count("state = 'consumed'") == 8
    assert queue.count("state = 'queued' AND deaths = 0 AND failures = 0") == 23


def test_a_suspect_runs_alone(queue: QueueSetup, consumer: InProcess) -> None:
    """It waits until nothing else runs in the process, and nothing starts beside it."""
    queue.fill("noop", 3)
    others = consumer.take(3)
    suspect = queue.send("note", 1)
    queue.run("UPDATE dramatiq.queue SET alone = true, deaths = 2 WHERE state = 'queued'")
    wait_until(
        lambda: next(consumer.consumer) is None and consumer.liveness.has_exclusive(QUEUE),
        10,
        "the suspect to be noticed",
    )
    queue.fill("noop", 5)
    assert next(consumer.consumer) is None
    for message in others:
        consumer.consumer.ack(message)
    [alone] = consumer.take(1)
    assert alone.id == suspect
    assert next(consumer.consumer) is None
    wait_until(lambda: queue.count("state = 'consumed'") == 1, 5, "the acks of the others")
    consumer.consumer.ack(alone)
    assert len(consumer.take(5)) == 5


def test_a_suspect_that_another_process_took_blocks_nobody(queue: QueueSetup, consumer: InProcess) -> None:
    """A process that stopped claiming because of the suspect claims again."""
    queue.fill("noop", 1)
    consumer.take(1)
    queue.send("note", 1)
    queue.run("UPDATE dramatiq.queue SET alone = true, deaths = 2 WHERE state = 'queued'")
    wait_until(
        lambda: next(consumer.consumer) is None and consumer.liveness.has_exclusive(QUEUE),
        10,
        "the suspect to be noticed",
    )
    assert next(consumer.consumer) is None
    queue.run("DELETE FROM dramatiq.queue WHERE alone")
    queue.fill("noop", 3)
    assert len(consumer.take(3)) == 3


def test_an_invalid_message_is_dead_and_others_run(queue: QueueSetup, consumer: InProcess) -> None:
    """It is dead-lettered with its reason; messages claimed with it run."""
    queue.fill("noop", 3)
    queue.run("""UPDATE dramatiq.queue SET message = '{"no": "message"}' WHERE message -> 'args' = '[2]'""")
    assert len(consumer.take(2)) == 2
    assert queue.count("state = 'rejected' AND reason LIKE 'its message has no actor_name%%'") == 1


def test_a_message_that_names_another_id_and_queue_is_settled_by_its_row(
    queue: QueueSetup, consumer: InProcess
) -> None:
    """SQL of other programs may write it. Otherwise it would stay claimed, or end Dramatiq's thread."""
    message_id = queue.send("noop", 1)
    foreign = {"message_id": str(UUID(int=1)), "queue_name": "no_such_queue"}
    queue.rows(
        "UPDATE dramatiq.queue SET message = message || %(foreign)s::jsonb RETURNING 1",
        foreign=json.dumps(foreign),
    )
    [message] = consumer.take(1)
    assert (message.id, message.message_id, message.queue_name) == (message_id, message_id, QUEUE)
    consumer.consumer.ack(message)
    wait_until(lambda: queue.count() == 0, 5, "its ack to be written")


def test_a_closed_route_costs_nothing_and_flows_when_it_opens(
    queue: QueueSetup, consumer: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 messages wait without capacity.

    No row is touched, and the probe runs; opening the route wakes the consumer.
    """
    monkeypatch.setattr("actors.queue.reaper.CHECK_SECONDS", 60.0)  # a check ends a wait, too
    queue.run(ROOM.format(0))
    queue.fill("noop", 10_000)
    probe = queue.send("noop", 0, priority=-1)
    [message] = consumer.take(1)
    assert message.id == probe
    assert next(consumer.consumer) is None
    assert queue.count("state = 'consumed'") == 1
    queue.run(ROOM.format("wanted"))
    queue.wake()
    monkeypatch.setattr("actors.queue.consumer.POLL_SECONDS", 60.0)  # so that only the notification wakes it
    assert len(consumer.take(7)) == 7


def test_consumer_alive_reads_the_advisory_lock(queue: QueueSetup, consumer: InProcess) -> None:
    """It is true from the first claim until the connection ends."""
    assert next(consumer.consumer) is None
    consumer_id = consumer.liveness.consumer
    assert consumer_id is not None
    alive = "SELECT dramatiq.consumer_alive(%(id)s)"
    assert queue.one(alive, id=consumer_id) is True
    assert queue.one(alive, id=consumer_id ^ 1) is False
    assert queue.one("SELECT count(*) FROM dramatiq.live") == 1
    consumer.liveness.close()
    wait_until(lambda: queue.one(alive, id=consumer_id) is False, 5, "the lock to be gone")
