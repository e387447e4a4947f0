"""The cost of claims and acks in pages; it does not grow with the backlog."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
from support.queue_setup import QUEUE, QueueSetup
from support.waiting import wait_until

from actors.queue.claim_floor import ClaimFloor
from gateway.database.connection import connect
from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables import messages
from gateway.lab import stray_processes

EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE claim ('q', 8, {}, NULL, 8)"


def test_a_claim_from_100000_costs_what_one_from_1000_costs(queue: QueueSetup) -> None:
    """Compare pages and plans, also with a plan made while the table was empty."""
    connection = connect(queue.dsn, application_name="test", deadline_seconds=60)
    cursor = connection.cursor()
    messages.prepare_consumer(Session(connection))
    for _ in range(8):
        cursor.execute("EXECUTE claim ('q', 8, 1, NULL, 8)")
    touched = []
    for count in (1_000, 99_000):
        queue.fill("noop", count)
        cursor.execute(EXPLAIN.format(1))
        plan = _plan(cursor)
        assert "queue_claim" in json.dumps(plan)
        assert "Seq Scan" not in [
            node["Node Type"] for node in _nodes(plan["Plan"]) if node.get("Relation Name") == "queue"
        ]
        touched.append(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
    assert queue.count("state = 'consumed'") == 16
    assert touched[1] <= touched[0] * 1.5
    connection.close()


def test_a_process_is_small_and_holds_one_lock_before_100000(queue: QueueSetup) -> None:
    """The limit holds from its first message on, over 3,000 messages."""
    queue.fill("noop", 100_000)
    process = queue.start()
    wait_until(lambda: queue.count() < 100_000, 30, "the first to be gone")
    family = [process.pid, *stray_processes.descendants(process.pid)]
    locks: set[int] = set()
    resident = 0

    def enough() -> bool:
        nonlocal resident
        locks.add(int(queue.one("SELECT count(*) FROM dramatiq.live")))
        pages = [int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) for pid in family]
        resident = max(resident, *(count * os.sysconf("SC_PAGE_SIZE") for count in pages))
        return queue.count() < 97_000

    wait_until(enough, 60, "some to be gone")
    process.kill()
    assert locks == {1}
    assert resident < 150e6


def test_a_claim_costs_the_same_whatever_the_statistics_say(queue: QueueSetup) -> None:
    """The statistics say that the table is empty.

    They are from before the commit, or after the last backlog.
    """
    filling = connect(queue.dsn, application_name="test", deadline_seconds=60)
    filling.autocommit = False
    filling.cursor().execute("SELECT count(dramatiq.send('q', 'noop', '[]')) FROM generate_series(1, 50000)")
    queue.run("ANALYZE dramatiq.queue")
    filling.commit()
    filling.close()
    assert queue.one("SELECT reltuples FROM pg_class WHERE oid = 'dramatiq.queue'::regclass") == 0
    connection = connect(queue.dsn, application_name="test", deadline_seconds=60)
    messages.prepare_consumer(Session(connection))
    cursor = connection.cursor()
    cursor.execute("EXECUTE claim ('another', 8, 1, NULL, 8)")  # a new connection reads the catalogue first
    cursor.execute(EXPLAIN.format(1))
    plan = _plan(cursor)["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 500
    assert queue.count("state = 'consumed'") == 8
    connection.close()


def test_messages_lie_in_the_primary_key_in_the_order_of_their_due_times(queue: QueueSetup) -> None:
    """This holds for any order of writes, so a claim touches few pages; also for infinite due times."""
    for due in (
        "now() + interval '1 hour'",
        "now()",
        "'infinity'",
        "'1960-01-01'",
        "now() - interval '1 hour'",
    ):
        queue.rows(f"SELECT dramatiq.send('q', 'noop', '[]', 4, ({due})::timestamptz)")
    by_id = queue.rows("SELECT due::text FROM dramatiq.queue ORDER BY message_id")
    by_due = queue.rows("SELECT due::text FROM dramatiq.queue ORDER BY due")
    versions = queue.rows("SELECT DISTINCT substring(message_id::text FROM 15 FOR 1) FROM dramatiq.queue")
    assert by_id == by_due
    assert versions == [("7",)]


def test_future_messages_are_not_scanned(queue: QueueSetup) -> None:
    """50,000 messages of a higher priority that are not yet due do not delay one that is due."""
    queue.fill("noop", 50_000, priority=0, delay_seconds=3600, spread_seconds=3600)
    queue.send("noop", 1, priority=6)
    connection = connect(queue.dsn, application_name="test", deadline_seconds=60)
    cursor = connection.cursor()
    messages.prepare_consumer(Session(connection))
    cursor.execute(EXPLAIN.format(1))
    plan = _plan(cursor)
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 500
    assert queue.count("state = 'consumed'") == 1
    connection.close()


def test_a_long_transaction_of_somebody_else_does_not_slow_the_claims(queue: QueueSetup) -> None:
    """It keeps dead index entries; a claim starts behind the last one of them, so it reads none."""
    queue.fill("noop", 20_000, delay_seconds=-3600, spread_seconds=1800)
    backup = connect(queue.dsn, application_name="test", deadline_seconds=60)
    backup.cursor().execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dramatiq.queue")
    connection = connect(queue.dsn, application_name="test", deadline_seconds=60)
    session, cursor = Session(connection), connection.cursor()
    messages.prepare_consumer(session)
    front = ClaimFloor()
    for _ in range(100):
        claim = messages.claim(session, QUEUE, 150, 1, front.floors())
        front.advance(claim.messages, wanted=150)
        messages.finish(session, [message.run for message in claim.messages], 1)
    assert queue.count() == 5_000
    floor = max(message.due for message in claim.messages)
    front_costs = []
    for floors in ("NULL", f"ARRAY[NULL, NULL, NULL, NULL, '{floor}'::timestamptz]"):
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE claim ('q', 8, 1, {floors}, 8)")
        plan = _plan(cursor)["Plan"]
        front_costs.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    assert front_costs[1] * 3 < front_costs[0]
    backup.close()
    connection.close()


def test_an_ack_does_not_scan_acked_messages(queue: QueueSetup) -> None:
    """It does not even under a long transaction, with a plan made for many consumed messages."""
    queue.fill("noop", 5_000, delay_seconds=-3600, spread_seconds=1800, scattered=True)
    backup = connect(queue.dsn, application_name="test", deadline_seconds=60)
    backup.cursor().execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dramatiq.queue")
    connection = connect(queue.dsn, application_name="test", deadline_seconds=60)
    session, cursor = Session(connection), connection.cursor()
    messages.prepare_consumer(session)
    cursor.execute("ANALYZE dramatiq.queue")
    for _ in range(20):
        taken = [message.run for message in messages.claim(session, QUEUE, 200, 1).messages]
        assert len(taken) == 200
        messages.finish(session, taken, 1)
    assert queue.count() == 1_000
    runs = [message.run for message in messages.claim(session, QUEUE, 8, 1).messages]
    query = load("queue")["finish"]
    cursor.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query.sql}",
        {"message_ids": [run[0] for run in runs], "claimed_at": runs[0][1], "consumer": 1},
    )
    plan = _plan(cursor)["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 8 * 10
    assert queue.count("state = 'consumed'") == 0
    backup.close()
    connection.close()


def _plan(cursor: psycopg2.extensions.cursor) -> dict[str, Any]:
    row = cursor.fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]
    return plan


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)
