"""In which order, how soon and how often messages of the queue run."""

import time

import pytest
from support.queue_bed import QueueBed
from support.waiting import wait_until


def test_the_oldest_runs_first_and_the_urgent_before_it(bed: QueueBed) -> None:
    """Within a priority by age, over all priorities the smallest number first."""
    for number in range(1, 6):
        bed.send("note", number)
    for number in range(11, 14):
        bed.send("note", number, priority=0)
    bed.send("note", 21, priority=7)
    bed.send("note", 1000, priority=-1)
    bed.start(threads=1)
    wait_until(lambda: len(bed.ran()) == 10, 15, "all to run")
    assert bed.ran() == [1000, 11, 12, 13, 1, 2, 3, 4, 5, 21]


def test_an_urgent_message_overtakes_a_backlog(bed: QueueBed) -> None:
    """It waits behind nothing that was there before, not even what a process might have prefetched."""
    bed.fill("pause", 2000)
    bed.start(threads=2)
    wait_until(lambda: bed.count() < 1990, 15, "the backlog to flow")
    bed.send("note", 1, priority=0)
    wait_until(bed.ran, 2, "the urgent one to run")
    assert bed.count() > 1000


def test_finished_messages_are_gone(bed: QueueBed) -> None:
    """Nothing of 500 messages remains, and each ran once."""
    bed.fill("note", 500)
    bed.start()
    wait_until(lambda: bed.count() == 0, 20, "the queue to be empty")
    assert sorted(bed.ran()) == list(range(1, 501))


def test_delayed_messages_run_within_a_second_of_their_time(bed: QueueBed) -> None:
    """10,000 of them due at random over 8 s; none early, and none held by the process meanwhile."""
    bed.start()
    bed.fill_punctual(10_000, delay_seconds=3, spread_seconds=8)
    assert bed.count() == 10_000
    assert bed.count("state = 'consumed'") == 0
    wait_until(lambda: bed.count() == 0, 30, "all to run")
    assert all(0 <= late_ms <= 1000 for late_ms in bed.ran())


@pytest.mark.parametrize(("count", "rest_seconds"), [(40, 0.0), (10, 2.5)], ids=["at work", "after a rest"])
def test_a_committed_message_starts_within_50_ms(bed: QueueBed, count: int, rest_seconds: float) -> None:
    """An idle process is woken by NOTIFY; 19 of 20 within that time, also where nothing moved for a while."""
    bed.start()
    bed.send("note", 0)
    wait_until(bed.ran, 10, "the first to run")
    for number in range(1, count + 1):
        rested = time.monotonic() + rest_seconds
        wait_until(lambda rested=rested: time.monotonic() >= rested, 5, "a rest")  # type: ignore[misc]
        sent = bed.one("SELECT clock_timestamp()")
        bed.send("note", number)
        wait_until(lambda number=number: number in bed.ran(), 5, "it to run")  # type: ignore[misc]
        bed.rows(
            "UPDATE ran SET due = %(sent)s WHERE number = %(number)s RETURNING 1", sent=sent, number=number
        )
    latest = bed.one(
        "SELECT percentile_disc(0.9) WITHIN GROUP (ORDER BY at - due) FROM ran WHERE number > 0"
        if rest_seconds
        else "SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY at - due) FROM ran WHERE number > 0"
    )
    assert latest.total_seconds() < 0.05


def test_without_notify_the_poll_finds_it(bed: QueueBed) -> None:
    """A lost NOTIFY costs a second, not the message."""
    bed.start()
    bed.send("note", 1, wake=False)
    wait_until(bed.ran, 3, "it to run")


def test_two_processes_share_a_backlog_and_run_each_message_once(bed: QueueBed) -> None:
    """SKIP LOCKED: no message is claimed by both, and both have work; each holds one lock throughout."""
    bed.start()
    bed.start()
    bed.fill("note", 2000)
    bed.wake()
    locks: set[int] = set()

    def empty() -> bool:
        locks.add(int(bed.one("SELECT count(*) FROM dramatiq.live")))
        return bed.count() == 0

    wait_until(empty, 30, "the queue to be empty")
    assert locks == {2}
    assert sorted(bed.ran()) == list(range(1, 2001))
    assert bed.one("SELECT count(DISTINCT pid) FROM ran") == 2
