"""The statements on a message's row: which deaths and failures are counted."""

from datetime import timedelta

from support.queue_setup import QUEUE, QueueSetup
from support.waiting import wait_until

from gateway.database.connection import connect
from gateway.database.session import Session
from gateway.database.tables import consumers, messages


def test_a_death_is_counted_for_started_messages_only(queue: QueueSetup) -> None:
    """A message claimed ahead gets no death; afterwards only an idle thread can claim it."""
    queue.fill("noop", 12, delay_seconds=-60, spread_seconds=30)

    def die(*, wanted: int, slots: int) -> int:
        """Claim `wanted` messages as a consumer whose process then dies; return how many were claimed."""
        connection = connect(queue.dsn, application_name="test", deadline_seconds=60)
        session = Session(connection)
        messages.prepare_consumer(session)
        assert consumers.take_lock(session, 77) is not None
        consumers.register(session, 77, host="h", pid=1, queue_names=["q"], threads=8)
        count = len(messages.claim(session, QUEUE, wanted, 77, slots=slots).messages)
        connection.close()
        with queue.database.statement() as other:
            wait_until(lambda: consumers.reap(other, [77]), 10, "the lock to be gone")
        return count

    def deaths() -> list[int]:
        return [row[0] for row in queue.rows("SELECT deaths FROM dramatiq.queue ORDER BY due")]

    assert die(wanted=8, slots=3) == 8
    assert deaths() == [1] * 3 + [0] * 9
    assert die(wanted=10, slots=0) == 5, "of the first ten, the five that were held ahead wait for a slot"
    assert deaths() == [1] * 3 + [0] * 9
    assert die(wanted=10, slots=10) == 10
    assert deaths() == [2] * 3 + [1] * 7 + [0] * 2


def test_a_retry_is_counted_once(queue: QueueSetup) -> None:
    """The call is repeated because its answer was lost: it changes nothing, even after a new claim."""
    queue.fill("noop", 1)
    connection = connect(queue.dsn, application_name="test", deadline_seconds=60)
    session = Session(connection)
    messages.prepare_consumer(session)

    def claim() -> messages.Claimed:
        [claimed] = messages.claim(session, QUEUE, 1, 1).messages
        return claimed

    def retry(claimed: messages.Claimed) -> int:
        return messages.retry(session, claimed.run, 1, delay=timedelta(), reason="it raised")

    first = claim()
    assert retry(first) == 1
    second = claim()
    assert retry(first) == 0
    assert (second.failures, queue.count("state = 'consumed'")) == (1, 1)
    assert retry(second) == 1
    connection.close()
