"""The end of a run changes the claim of this run only."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from dramatiq import Message
from support.queue_consumer import InProcess, come_back, cut_off
from support.queue_setup import QUEUE, QueueSetup
from support.waiting import wait_until

from actors.queue.broker import EdgeBroker
from actors.queue.in_flight import UNSTARTED, Ending, EndingKind
from gateway.database.connection import connect
from gateway.database.session import Session
from gateway.database.tables import messages


def enqueue_again(queue: QueueSetup, message_id: str, number: int = 1) -> None:
    """Enqueue the same message again, as a sender does when it repeats."""
    broker = EdgeBroker(queue.dsn, middleware=[])
    broker.enqueue(Message(QUEUE, "noop", (number,), {}, {}, message_id=message_id))
    broker.close()


ENDS: dict[str, Callable[[Session, messages.Run], object]] = {
    "finish": lambda session, run: messages.finish(session, [run], 1),
    "give_back": lambda session, run: messages.give_back(session, [run], 1),
    "bury": lambda session, run: messages.dead_letter(session, run, 1, reason="it raised"),
    "retry": lambda session, run: messages.retry(
        session, run, 1, delay=timedelta(hours=1), reason="it raised"
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_ending_leaves_a_later_run_of_the_same_consumer_alone(queue: QueueSetup, end: str) -> None:
    """The message was enqueued and claimed again while it ran: the end of the first run does nothing."""
    message_id = queue.send("noop", 1)
    connection = connect(queue.dsn, application_name="test", deadline_seconds=60)
    session = Session(connection)
    messages.prepare_consumer(session)
    [first] = messages.claim(session, QUEUE, 1, 1).messages
    enqueue_again(queue, message_id)
    [second] = messages.claim(session, QUEUE, 1, 1).messages
    ENDS[end](session, first.run)
    assert queue.count("state = 'consumed' AND consumer = 1") == 1
    ENDS[end](session, second.run)
    assert queue.count("state = 'consumed' AND consumer = 1") == 0
    connection.close()


def test_two_runs_of_one_message_end_in_one_batch(queue: QueueSetup) -> None:
    """Both runs are in the batch; only the run that the row names is ended."""
    message_id = queue.send("noop", 1)
    connection = connect(queue.dsn, application_name="test", deadline_seconds=60)
    session = Session(connection)
    messages.prepare_consumer(session)
    [first] = messages.claim(session, QUEUE, 1, 1).messages
    enqueue_again(queue, message_id)
    [second] = messages.claim(session, QUEUE, 1, 1).messages
    messages.finish(session, [first.run, second.run], 1)
    assert queue.count() == 0
    connection.close()


@pytest.mark.parametrize(
    "ending", [None, UNSTARTED, Ending(EndingKind.DEAD, "it raised"), Ending(EndingKind.RETRY, "it raised")]
)
def test_a_message_that_is_enqueued_again_while_it_runs_runs_again(
    queue: QueueSetup, consumer: InProcess, ending: Ending | None
) -> None:
    """It runs again, whatever the first run's end."""
    message_id = queue.send("noop", 1)
    [first] = consumer.take(1)
    enqueue_again(queue, message_id, 2)
    [second] = consumer.take(1)
    assert (second.id, second.args) == (message_id, (2,))
    if ending is not None:
        first.ending = ending
    consumer.consumer.ack(first)
    queue.send("noop", 3)
    [third] = consumer.take(1)
    consumer.consumer.ack(third)
    wait_until(lambda: queue.count() == 1, 5, "the acks")
    assert queue.count("state = 'consumed' AND failures = 0") == 1
    consumer.consumer.ack(second)
    wait_until(lambda: queue.count() == 0, 5, "the last ack")


def test_a_dead_message_that_is_enqueued_again_begins_without_deaths_and_failures(queue: QueueSetup) -> None:
    """Otherwise the first failure, or the first death of its process, would make it dead again."""
    message_id = queue.send("noop", 1)
    columns = "state::text, deaths, failures, alone, never_ahead, freed_from, reason"
    counts = f"SELECT {columns} FROM dramatiq.queue"  # noqa: S608  ours
    queue.run(
        "UPDATE dramatiq.queue SET deaths = 3, failures = 10, alone = true, never_ahead = true,"
        " freed_from = 7, reason = 'died'"
    )
    enqueue_again(queue, message_id)
    assert queue.rows(counts) == [("queued", 3, 10, True, True, 7, "died")]
    queue.run("UPDATE dramatiq.queue SET state = 'rejected'")
    enqueue_again(queue, message_id)
    assert queue.rows(counts) == [("queued", 0, 0, False, False, None, None)]


def test_a_run_whose_answer_was_lost_is_not_adopted_for_another_run(
    queue: QueueSetup, consumer: InProcess
) -> None:
    """The row was claimed again under the lost id, and no thread runs it: it is released at once."""
    message_id = queue.send("noop", 1)
    [first] = consumer.take(1)
    enqueue_again(queue, message_id, 2)
    lost = cut_off(queue, consumer)
    queue.run(f"UPDATE dramatiq.queue SET state = 'consumed', consumer = {lost}, mtime = now()")  # noqa: S608
    come_back(consumer, lost)
    consumer.consumer.ack(first)
    [second] = consumer.take(1)
    assert (second.id, second.args, second.deaths) == (message_id, (2,), 0)
