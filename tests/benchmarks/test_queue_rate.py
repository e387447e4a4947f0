"""The queue under a backlog, against stock dramatiq-pg in the same run (issue: a million messages).

QUEUE_BACKLOG sets the size of the backlog, for a quicker run.

Each rate begins after a vacuum and a checkpoint. PostgreSQL vacuums a million messages of one statement at
some moment afterwards, and on two cores that moment would decide the figure. A backlog that grew over a
night has been vacuumed before. The checkpoint makes the measurement slower, not faster: after it the first
change of a page logs the whole page.
"""
# ruff: noqa: T201  what is printed is the result

import os
import statistics
import time
from importlib.resources import files
from pathlib import Path

import pytest
from support.launcher import Processes
from support.queue_setup import QUEUE, QueueSetup
from support.waiting import wait_until

from gateway.database.connection import connect
from gateway.database.session import Session
from gateway.database.tables import messages, queues
from gateway.lab import stray_processes

pytestmark = [pytest.mark.benchmark, pytest.mark.growth, pytest.mark.timeout(1800)]

BACKLOG = int(os.environ.get("QUEUE_BACKLOG", "1000000"))
SMALL = 1_000
SAMPLE = 100_000
STOCK_SAMPLE = 5_000
"""Stock dramatiq-pg hangs at about 15,000."""

STOCK_FILL = """
INSERT INTO stock.queue (message_id, queue_name, state, message)
SELECT id, 'q', 'queued', jsonb_build_object(
    'queue_name', 'q', 'actor_name', 'noop', 'args', jsonb_build_array(i), 'kwargs', '{}'::jsonb,
    'options', '{}'::jsonb, 'message_id', id, 'message_timestamp', 0)
FROM (SELECT gen_random_uuid() AS id, i FROM generate_series(1, %(count)s) AS i) AS new
RETURNING 1
"""


@pytest.fixture
def queue(queue: QueueSetup) -> QueueSetup:
    """Return a queue without consumers, with timeouts for a million messages."""
    queue.database.deadline_seconds = 600
    return queue


def test_the_rate_does_not_depend_on_the_backlog(queue: QueueSetup, processes: Processes) -> None:
    """Claim, run and ack: a million waiting messages against a thousand, and against the stock consumer."""
    stock = _stock_rate(queue, processes)
    small = _small_rate(queue)
    print(f"\nstock dramatiq-pg, {STOCK_SAMPLE:,} waiting   {stock:8.0f} /s")
    print(f"{SMALL:,} waiting                     {small:8.0f} /s   {small / stock:.1f} x stock")
    rates = {}
    for order in ("in order", "scattered"):
        begun = time.monotonic()
        queue.fill("noop", BACKLOG, delay_seconds=-7200, spread_seconds=3600, scattered=order == "scattered")
        print(f"filled {BACKLOG:,}, due {order}, in {time.monotonic() - begun:.0f} s")
        _settle(queue)
        pages = _pages_of_a_claim(queue)
        queue.send("note", 1, priority=0)
        begun = time.monotonic()
        process = queue.launch()
        wait_until(queue.ran, 30, "the first message to run")
        boot = time.monotonic() - begun
        locks: set[int] = set()
        rates[order] = _drain_rate(queue, SAMPLE, locks)
        resident = max(
            _resident_bytes(pid) for pid in [process.pid, *stray_processes.descendants(process.pid)]
        )
        process.kill()
        queue.run("TRUNCATE dramatiq.queue, ran")
        print(
            f"{BACKLOG:,} waiting, {order}      {rates[order]:8.0f} /s"
            f"   {rates[order] / small:.2f} x of {SMALL:,}"
        )
        print(f"from launch to first message {boot:.2f} s, {resident / 1e6:.0f} MB, {locks} advisory lock")
        print(f"a claim of eight reads {pages} pages")
        assert pages < 500
        assert locks == {1}
        assert boot < 2
        assert resident < 150e6
    assert small >= 3 * stock
    assert min(rates.values()) >= 0.8 * small


def test_a_second_million_reuses_the_space_of_the_first(queue: QueueSetup) -> None:
    """Table and indexes grow by less than 20 %."""
    sizes = []
    for _ in range(2):
        queue.fill("noop", BACKLOG)
        sizes.append(queue.one("SELECT pg_total_relation_size('dramatiq.queue')"))
        _drain_by_sql(queue)
        queues.vacuum(queue.database)
    print(f"\n{BACKLOG:,} messages: {sizes[0] / 1e6:.0f} MB, then {sizes[1] / 1e6:.0f} MB")
    assert sizes[1] < 1.2 * sizes[0]


def test_delays_are_kept_to_the_second(queue: QueueSetup) -> None:
    """A tenth of the backlog is due at random over a minute; the process holds none before its time."""
    count = BACKLOG // 10
    process = queue.start()
    family = [process.pid, *stray_processes.descendants(process.pid)]
    queue.fill_punctual(count, delay_seconds=20, spread_seconds=60)
    assert queue.count("state = 'consumed'") == 0
    resident = max(map(_resident_bytes, family))
    wait_until(lambda: queue.count() == 0, 120, "all to run")
    [(late, early, unpunctual)] = queue.rows(
        "SELECT coalesce(max(number), 0), coalesce(min(number), 0), count(*) FROM ran"
    )
    print(f"\n{count:,} over 60 s: at most {max(late, 100)} ms late, {unpunctual} more than 100 ms")
    print(f"the process while they waited: {resident / 1e6:.0f} MB")
    assert early >= 0
    assert late <= 1000
    assert resident < 150e6


def test_a_committed_message_starts_within_50_ms(queue: QueueSetup) -> None:
    """NOTIFY wakes an idle process: 19 of 20 of 100 messages, every tenth after a pause."""
    queue.start()
    for number in range(1, 101):
        if number % 10 == 0:
            time.sleep(2.5)  # the pause
        sent = queue.one("SELECT clock_timestamp()")
        queue.send("note", number)
        wait_until(lambda number=number: number in queue.ran(), 15, "it to run")  # type: ignore[misc]
        queue.rows(
            "UPDATE ran SET due = %(sent)s WHERE number = %(number)s RETURNING 1", sent=sent, number=number
        )
    [(median, latest)] = queue.rows(
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY at - due),"
        " percentile_cont(0.95) WITHIN GROUP (ORDER BY at - due) FROM ran"
    )
    print(
        f"\nfrom the statement to the start: median {median.total_seconds() * 1000:.1f} ms,"
        f" 19 of 20 within {latest.total_seconds() * 1000:.1f} ms"
    )
    assert latest.total_seconds() < 0.05


def test_what_a_transactional_enqueue_costs(queue: QueueSetup) -> None:
    """Print it beside an empty statement; the tests of the queue check that it is one round trip."""

    def median(sql: str) -> float:
        times = []
        for _ in range(300):
            begun = time.perf_counter()
            queue.rows(sql)
            times.append(time.perf_counter() - begun)
        return statistics.median(times) * 1000

    both = "SELECT dramatiq.send('q', 'noop', '[1]'), dramatiq.send('p', 'noop', '[1]')"
    print(f"\ntwo messages committed: {median(both):.2f} ms; an empty statement: {median('SELECT 1'):.2f} ms")


def _small_rate(queue: QueueSetup) -> float:
    """Return the rate with about SMALL messages waiting all the time."""
    _settle(queue)
    process = queue.start()
    sent = 0
    begun = time.monotonic()
    while sent < SAMPLE:
        if queue.count() < SMALL:
            queue.fill("noop", SMALL)
            queue.wake()
            sent += SMALL
    wait_until(lambda: queue.count() == 0, 60, "the queue to be empty")
    rate = sent / (time.monotonic() - begun)
    process.stop()
    return rate


def _settle(queue: QueueSetup) -> None:
    """Vacuum and write a checkpoint, so that earlier writes do not disturb the measurement."""
    queues.vacuum(queue.database)
    queue.run("CHECKPOINT")


def _pages_of_a_claim(queue: QueueSetup) -> int:
    """Return the pages of a claim by EXPLAIN, with the consumer's plan; the messages stay unclaimed."""
    connection = connect(queue.dsn, application_name="test", deadline_seconds=60)
    messages.prepare_consumer(Session(connection))
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE claim ('q', 8, 1, NULL, 8)")
        [[[plan]]] = cursor.fetchall()
        cursor.execute("ROLLBACK")
    connection.close()
    assert "queue_claim" in str(plan)
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


def _drain_rate(queue: QueueSetup, count: int, locks: set[int]) -> float:
    """Return the rate over the next `count` messages by age; `locks` collects counts of advisory locks."""
    oldest = "SELECT due FROM dramatiq.queue WHERE queue_name = 'q' AND priority = 4 AND state = 'queued' "
    oldest += "AND NOT alone ORDER BY due LIMIT 1"
    target = queue.one(f"{oldest} OFFSET {count}")
    begun = time.monotonic()

    def gone() -> bool:
        locks.add(int(queue.one("SELECT count(*) FROM dramatiq.live")))
        return bool(queue.one(oldest) > target)

    wait_until(gone, 120, "the sample to be gone")
    return count / (time.monotonic() - begun)


def _drain_by_sql(queue: QueueSetup) -> None:
    with queue.database.statement() as session:
        messages.prepare_consumer(session)
        while True:
            claim = messages.claim(session, QUEUE, 32, 1)  # the batch size of a process with many threads
            if not claim.messages:
                break
            messages.finish(session, [message.run for message in claim.messages], 1)
    queue.database.close()  # its connection has a consumer's settings


def _stock_rate(queue: QueueSetup, processes: Processes) -> float:
    schema = files("dramatiq_pg").joinpath("schema.sql").read_text(encoding="utf-8")
    lines = [line for line in schema.splitlines() if not line.startswith("\\")]
    script = "\n".join(lines)
    for name, value in (("schema", "stock"), ("state", "state"), ("queue", "queue")):
        script = script.replace(f':"{name}"', f'"{value}"')
    queue.run(script)
    queue.rows(STOCK_FILL, count=STOCK_SAMPLE)
    waiting = "SELECT count(*) FROM stock.queue WHERE state <> 'done'"
    process = processes.start("dramatiq", "support.stock_actors", "-p", "1", "-t", "8", **queue.environment())
    wait_until(lambda: queue.one(waiting) < STOCK_SAMPLE, 30, "the stock consumer to begin")
    begun, first = time.monotonic(), queue.one(waiting)
    wait_until(lambda: queue.one(waiting) == 0, 120, "the stock consumer to finish")
    rate = float(first) / (time.monotonic() - begun)
    process.kill()
    return rate


def _resident_bytes(process: int) -> int:
    pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
