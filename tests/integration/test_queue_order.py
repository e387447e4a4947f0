"""In which order and how often messages run, and what wakes an idle process.

`make bench` measures how soon they run.
"""

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
    wait_until(queue.ran, 15, "the urgent one to run")
    assert queue.count() > 1000


def test_finished_messages_are_deleted(queue: QueueSetup) -> None:
    """No row of 500 messages remains, and each ran once."""
    queue.fill("note", 500)
    queue.start()
    wait_until(lambda: queue.count() == 0, 20, "the queue to be empty")
    assert sorted(queue.ran()) == list(range(1, 501))


def test_delayed_messages_run_at_their_time(queue: QueueSetup) -> None:
    """10,000 are due at random over 8 s: none runs or is claimed early; only its time wakes the process."""
    queue.start(polls=False)
    queue.fill_punctual(10_000, delay_seconds=3, spread_seconds=8)
    queue.wake()  # so that it reads when the first one is due
    early: set[int] = set()

    def done() -> bool:
        early.add(queue.count("state = 'consumed' AND due > clock_timestamp()"))
        return queue.count() == 0

    wait_until(done, 90, "all to run")
    assert early == {0}
    assert all(late_ms >= 0 for late_ms in queue.ran())


@pytest.mark.parametrize("enqueue", ["alone", "in a row"])
def test_notify_wakes_an_idle_process(queue: QueueSetup, enqueue: str) -> None:
    """Each message is found by its own notification: the process does not poll."""
    queue.start(polls=False)
    for number in range(1, 101):
        queue.send("note", number)
        if enqueue == "alone":
            wait_until(lambda number=number: number in queue.ran(), 15, "it to run")  # type: ignore[misc]
    wait_until(lambda: len(queue.ran()) == 100, 15, "all to run")
    assert sorted(queue.ran()) == list(range(1, 101))


def test_without_notify_a_poll_finds_the_message(queue: QueueSetup) -> None:
    """A lost NOTIFY only delays a message."""
    queue.start()
    queue.send("note", 1, wake=False)
    wait_until(queue.ran, 15, "it to run")


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
