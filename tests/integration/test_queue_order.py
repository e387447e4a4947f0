"""In which order, how soon and how often messages run."""

import time

import pytest
from support.queue_setup import QueueSetup
from support.waiting import wait_until


def test_the_oldest_runs_first_and_the_urgent_before_it(queue: QueueSetup) -> None:
    """Within a priority, messages run by age; over all priorities, the smallest number runs first."""
    for number in range(1, 6):
        queue.send("note", number)
    for number in range(11, 14):
        queue.send("note", number, priority=0)
    queue.send("note", 21, priority=7)
    queue.send("note", 1000, priority=-1)
    queue.start(threads=1)
    wait_until(lambda: len(queue.ran()) == 10, 15, "all to run")
    assert queue.ran() == [1000, 11, 12, 13, 1, 2, 3, 4, 5, 21]


def test_an_urgent_message_overtakes_a_backlog(queue: QueueSetup) -> None:
    """It runs before all earlier messages, also those that a process may have prefetched."""
    queue.fill("pause", 2000)
    queue.start(threads=2)
    wait_until(lambda: queue.count() < 1990, 15, "the backlog to flow")
    queue.send("note", 1, priority=0)
    wait_until(queue.ran, 2, "the urgent one to run")
    assert queue.count() > 1000


def test_finished_messages_are_deleted(queue: QueueSetup) -> None:
    """No row of 500 messages remains, and each ran once."""
    queue.fill("note", 500)
    queue.start()
    wait_until(lambda: queue.count() == 0, 20, "the queue to be empty")
    assert sorted(queue.ran()) == list(range(1, 501))


def test_delayed_messages_run_within_a_second_of_their_time(queue: QueueSetup) -> None:
    """10,000 are due at random over 8 s; none runs early, and no process holds one meanwhile."""
    queue.start()
    queue.fill_punctual(10_000, delay_seconds=3, spread_seconds=8)
    assert queue.count() == 10_000
    assert queue.count("state = 'consumed'") == 0
    wait_until(lambda: queue.count() == 0, 30, "all to run")
    assert all(0 <= late_ms <= 1000 for late_ms in queue.ran())


@pytest.mark.parametrize(("count", "rest_seconds"), [(40, 0.0), (10, 2.5)], ids=["at work", "after a rest"])
def test_a_committed_message_starts_within_50_ms(queue: QueueSetup, count: int, rest_seconds: float) -> None:
    """NOTIFY wakes an idle process; 19 of 20 start within 50 ms, also after a pause."""
    queue.start()
    queue.send("note", 0)
    wait_until(queue.ran, 10, "the first to run")
    for number in range(1, count + 1):
        rested = time.monotonic() + rest_seconds
        wait_until(lambda rested=rested: time.monotonic() >= rested, 5, "a rest")  # type: ignore[misc]
        sent = queue.one("SELECT clock_timestamp()")
        queue.send("note", number)
        wait_until(lambda number=number: number in queue.ran(), 5, "it to run")  # type: ignore[misc]
        queue.rows(
            "UPDATE ran SET due = %(sent)s WHERE number = %(number)s RETURNING 1", sent=sent, number=number
        )
    latest = queue.one(
        "SELECT percentile_disc(0.9) WITHIN GROUP (ORDER BY at - due) FROM ran WHERE number > 0"
        if rest_seconds
        else "SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY at - due) FROM ran WHERE number > 0"
    )
    assert latest.total_seconds() < 0.05


def test_without_notify_a_poll_finds_the_message(queue: QueueSetup) -> None:
    """A lost NOTIFY delays a message by a second."""
    queue.start()
    queue.send("note", 1, wake=False)
    wait_until(queue.ran, 3, "it to run")


def test_two_processes_share_a_backlog_and_run_each_message_once(queue: QueueSetup) -> None:
    """SKIP LOCKED: no message is claimed by both, both get messages, and each holds one lock."""
    queue.start()
    queue.start()
    queue.fill("note", 2000)
    queue.wake()
    locks: set[int] = set()

    def empty() -> bool:
        locks.add(int(queue.one("SELECT count(*) FROM dramatiq.live")))
        return queue.count() == 0

    wait_until(empty, 30, "the queue to be empty")
    assert locks == {2}
    assert sorted(queue.ran()) == list(range(1, 2001))
    assert queue.one("SELECT count(DISTINCT pid) FROM ran") == 2
