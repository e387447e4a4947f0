"""The consumer by itself: its claims, its acks, its cost, and what it shows."""

import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from dramatiq import Message
from dramatiq.errors import ConnectionError as BrokerConnectionError
from launcher import Processes
from queue_bed import QUEUE, QueueBed
from typer.testing import CliRunner
from waiting import wait_until

from actors.ack import AckWriter
from actors.broker import EdgeBroker
from actors.capacity import Capacity
from actors.consumer import EdgeConsumer
from actors.front import Front
from actors.held import Held, HeldMessage
from actors.liveness import Liveness
from cli.queue import app
from gateway.lab import leftovers
from gateway.store import messages
from gateway.store.database import Session, connect
from gateway.store.queries import load


@pytest.fixture
def bed(database_url: str, processes: Processes) -> Iterator[QueueBed]:
    """A queue without consumers."""
    bed = QueueBed(database_url, processes)
    yield bed
    bed.close()


class InProcess:
    """A consumer without Dramatiq around it."""

    def __init__(self, dsn: str, threads: int = 8) -> None:
        self.held = Held()
        self.capacity = Capacity(threads)
        self.liveness = Liveness(dsn, held=self.held, threads=threads)
        self.acks = AckWriter(dsn)
        self.consumer = EdgeConsumer(
            QUEUE, liveness=self.liveness, capacity=self.capacity, held=self.held, acks=self.acks
        )

    def take(self, count: int) -> list[HeldMessage]:
        """That many messages."""
        taken: list[HeldMessage] = []

        def enough() -> bool:
            if len(taken) == count:
                return True
            message = next(self.consumer)
            if message is not None:
                taken.append(message)
            return len(taken) == count

        wait_until(enough, 10, "the messages")
        return taken

    def be_quick(self) -> None:
        """As if the last messages had ended at once, however slow this machine is just now."""
        for _ in range(100):
            self.consumer._pace.note(0.0)

    def close(self) -> None:
        """As at the end of a process."""
        self.consumer.close()
        self.acks.close()
        self.liveness.close()


@pytest.fixture
def consumer(bed: QueueBed) -> Iterator[InProcess]:
    """One consumer on that queue."""
    consumer = InProcess(bed.dsn)
    yield consumer
    consumer.close()


ROOM = """
CREATE OR REPLACE FUNCTION dramatiq.room(queue_name text, wanted integer) RETURNS integer
LANGUAGE sql STABLE AS 'SELECT {}'
"""
EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE claim ('q', 8, {}, NULL, 8)"


def test_a_claim_from_100000_costs_what_one_from_1000_costs(bed: QueueBed) -> None:
    """By the pages it touches and by its plan, with a plan made while the table was empty."""
    connection = connect(bed.dsn, application_name="test", deadline_seconds=60)
    cursor = connection.cursor()
    messages.prepare_consumer(Session(connection))
    for _ in range(8):
        cursor.execute("EXECUTE claim ('q', 8, 1, NULL, 8)")
    touched = []
    for count in (1_000, 99_000):
        bed.fill("noop", count)
        cursor.execute(EXPLAIN.format(1))
        plan = _plan(cursor)
        assert "queue_claim" in json.dumps(plan)
        assert "Seq Scan" not in [
            node["Node Type"] for node in _nodes(plan["Plan"]) if node.get("Relation Name") == "queue"
        ]
        touched.append(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
    assert bed.count("state = 'consumed'") == 16
    assert touched[1] <= touched[0] * 1.5
    connection.close()


def test_a_process_is_small_and_holds_one_lock_before_100000(bed: QueueBed) -> None:
    """From its first message on, over 3,000 of them."""
    bed.fill("noop", 100_000)
    process = bed.start()
    wait_until(lambda: bed.count() < 100_000, 30, "the first to be gone")
    family = [process.pid, *leftovers.descendants(process.pid)]
    locks: set[int] = set()
    resident = 0

    def enough() -> bool:
        nonlocal resident
        locks.add(int(bed.one("SELECT count(*) FROM dramatiq.live")))
        pages = [int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) for pid in family]
        resident = max(resident, *(count * os.sysconf("SC_PAGE_SIZE") for count in pages))
        return bed.count() < 97_000

    wait_until(enough, 60, "some to be gone")
    process.kill()
    assert locks == {1}
    assert resident < 150e6


def test_a_claim_costs_the_same_whatever_the_statistics_say(bed: QueueBed) -> None:
    """They say that nothing is there: made before the commit, or after the last backlog was worked off."""
    filling = connect(bed.dsn, application_name="test", deadline_seconds=60)
    filling.autocommit = False
    filling.cursor().execute("SELECT count(dramatiq.send('q', 'noop', '[]')) FROM generate_series(1, 50000)")
    bed.run("ANALYZE dramatiq.queue")
    filling.commit()
    filling.close()
    assert bed.one("SELECT reltuples FROM pg_class WHERE oid = 'dramatiq.queue'::regclass") == 0
    connection = connect(bed.dsn, application_name="test", deadline_seconds=60)
    messages.prepare_consumer(Session(connection))
    cursor = connection.cursor()
    cursor.execute(EXPLAIN.format(1))
    plan = _plan(cursor)["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 500
    assert bed.count("state = 'consumed'") == 8
    connection.close()


def test_a_death_counts_against_what_was_started(bed: QueueBed) -> None:
    """What was claimed ahead is not charged; then it is claimed for an idle thread only, and is."""
    bed.fill("noop", 12, delay_seconds=-60, spread_seconds=30)

    def die(*, wanted: int, seats: int) -> int:
        """A consumer claims so much, and its process dies; how much that was."""
        connection = connect(bed.dsn, application_name="test", deadline_seconds=60)
        session = Session(connection)
        messages.prepare_consumer(session)
        assert messages.take_lock(session, 77) is not None
        messages.register(session, 77, host="h", pid=1, queue_names=["q"], threads=8)
        count = len(messages.claim(session, QUEUE, wanted, 77, seats=seats).messages)
        connection.close()
        with bed.database.statement() as other:
            wait_until(lambda: messages.reap(other, [77]), 10, "the lock to be gone")
        return count

    def deaths() -> list[int]:
        return [row[0] for row in bed.rows("SELECT deaths FROM dramatiq.queue ORDER BY due")]

    assert die(wanted=8, seats=3) == 8
    assert deaths() == [1] * 3 + [0] * 9
    assert die(wanted=10, seats=0) == 5, "of the first ten, the five that were held ahead wait for a seat"
    assert deaths() == [1] * 3 + [0] * 9
    assert die(wanted=10, seats=10) == 10
    assert deaths() == [2] * 3 + [1] * 7 + [0] * 2


def test_a_retry_is_counted_once(bed: QueueBed) -> None:
    """Said again because its answer was lost, it changes nothing, also where we claimed the message again."""
    bed.fill("noop", 1)
    connection = connect(bed.dsn, application_name="test", deadline_seconds=60)
    session = Session(connection)
    messages.prepare_consumer(session)

    def claim() -> messages.Claimed:
        [claimed] = messages.claim(session, QUEUE, 1, 1).messages
        return claimed

    def retry(claimed: messages.Claimed) -> int:
        return messages.retry(
            session, claimed.message_id, 1, failures=claimed.failures, delay=timedelta(), reason="it raised"
        )

    first = claim()
    assert retry(first) == 1
    second = claim()
    assert retry(first) == 0
    assert (second.failures, bed.count("state = 'consumed'")) == (1, 1)
    assert retry(second) == 1
    connection.close()


def test_messages_lie_in_the_primary_key_in_the_order_of_their_due_times(bed: QueueBed) -> None:
    """Whenever they were written, so that a claim touches few of its pages; also without end or beginning."""
    for due in (
        "now() + interval '1 hour'",
        "now()",
        "'infinity'",
        "'1960-01-01'",
        "now() - interval '1 hour'",
    ):
        bed.rows(f"SELECT dramatiq.send('q', 'noop', '[]', 4, ({due})::timestamptz)")
    by_id = bed.rows("SELECT due::text FROM dramatiq.queue ORDER BY message_id")
    by_due = bed.rows("SELECT due::text FROM dramatiq.queue ORDER BY due")
    versions = bed.rows("SELECT DISTINCT substring(message_id::text FROM 15 FOR 1) FROM dramatiq.queue")
    assert by_id == by_due
    assert versions == [("7",)]


def test_future_messages_are_not_walked(bed: QueueBed) -> None:
    """50,000 that are not yet due, of a more urgent priority, do not stand before one that is."""
    bed.fill("noop", 50_000, priority=0, delay_seconds=3600, spread_seconds=3600)
    bed.send("noop", 1, priority=6)
    connection = connect(bed.dsn, application_name="test", deadline_seconds=60)
    cursor = connection.cursor()
    messages.prepare_consumer(Session(connection))
    cursor.execute(EXPLAIN.format(1))
    plan = _plan(cursor)
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 500
    assert bed.count("state = 'consumed'") == 1
    connection.close()


def test_a_long_transaction_of_somebody_else_does_not_slow_the_claims(bed: QueueBed) -> None:
    """While it lasts no finished entry may be removed; who goes on behind its last claim meets none."""
    bed.fill("noop", 20_000, delay_seconds=-3600, spread_seconds=1800)
    backup = connect(bed.dsn, application_name="test", deadline_seconds=60)
    backup.cursor().execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dramatiq.queue")
    connection = connect(bed.dsn, application_name="test", deadline_seconds=60)
    session, cursor = Session(connection), connection.cursor()
    messages.prepare_consumer(session)
    front = Front()
    for _ in range(100):
        claim = messages.claim(session, QUEUE, 150, 1, front.floors())
        front.advance(claim.messages, wanted=150)
        messages.finish(session, [message.message_id for message in claim.messages], 1)
    assert bed.count() == 5_000
    floor = max(message.due for message in claim.messages)
    front_costs = []
    for floors in ("NULL", f"ARRAY[NULL, NULL, NULL, NULL, '{floor}'::timestamptz]"):
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE claim ('q', 8, 1, {floors}, 8)")
        plan = _plan(cursor)["Plan"]
        front_costs.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    assert front_costs[1] * 3 < front_costs[0]
    backup.close()
    connection.close()


def test_an_ack_does_not_walk_what_was_acked_before(bed: QueueBed) -> None:
    """Not even under a long transaction, with a plan that knows how many messages are consumed."""
    bed.fill("noop", 5_000, delay_seconds=-3600, spread_seconds=1800, scattered=True)
    backup = connect(bed.dsn, application_name="test", deadline_seconds=60)
    backup.cursor().execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dramatiq.queue")
    connection = connect(bed.dsn, application_name="test", deadline_seconds=60)
    session, cursor = Session(connection), connection.cursor()
    messages.prepare_consumer(session)
    cursor.execute("ANALYZE dramatiq.queue")
    for _ in range(20):
        taken = [message.message_id for message in messages.claim(session, QUEUE, 200, 1).messages]
        assert messages.finish(session, taken, 1) == 200
    ids = [message.message_id for message in messages.claim(session, QUEUE, 8, 1).messages]
    query = load("queue")["finish"]
    cursor.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query.sql}", {"message_ids": ids, "consumer": 1}
    )
    plan = _plan(cursor)["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 8 * 10
    assert bed.count("state = 'consumed'") == 0
    backup.close()
    connection.close()


def test_what_stands_before_the_front_runs_within_a_second(bed: QueueBed, consumer: InProcess) -> None:
    """A retry, or a commit that came late, while the consumer works through a backlog behind it."""
    bed.fill("noop", 1_000)
    for message in consumer.take(8):
        consumer.consumer.ack(message)
    early = bed.send("noop", 0, delay_seconds=-3600)
    seen: list[str] = []

    def found() -> bool:
        [message] = consumer.take(1)
        consumer.consumer.ack(message)
        seen.append(message.id)
        return message.id == early

    wait_until(found, 3, "the early one")
    assert bed.count() > 0


def test_a_late_ack_deletes_nothing(bed: QueueBed, consumer: InProcess) -> None:
    """A message that was freed from us and claimed by another stays theirs when we finish it."""
    bed.send("noop", 1)
    [message] = consumer.take(1)
    bed.run("UPDATE dramatiq.queue SET consumer = 4711")
    consumer.consumer.ack(message)
    bed.send("noop", 2)
    [second] = consumer.take(1)
    consumer.consumer.ack(second)
    wait_until(lambda: bed.count() == 1, 5, "the second to be gone")
    assert bed.count("state = 'consumed' AND consumer = 4711") == 1


def test_no_more_is_claimed_than_there_are_threads(bed: QueueBed, consumer: InProcess) -> None:
    """And a seat that becomes free is used at once."""
    bed.fill("noop", 20)
    taken = consumer.take(8)
    assert next(consumer.consumer) is None
    assert bed.count("state = 'consumed'") == 8
    consumer.consumer.ack(taken[0])
    assert len(consumer.take(1)) == 1


def test_while_messages_end_quickly_as_many_again_are_claimed_ahead(
    bed: QueueBed, consumer: InProcess
) -> None:
    """At most a thread's worth more, in their order, each started only when a thread is idle."""
    bed.fill("noop", 40, delay_seconds=-60, spread_seconds=40)
    taken = consumer.take(8)
    for message in taken:
        consumer.consumer.ack(message)
    running = consumer.take(8)
    consumer.consumer.ack(running[0])
    consumer.be_quick()
    running.append(*consumer.take(1))
    wait_until(lambda: bed.count("state = 'consumed'") == 15, 5, "the acks")  # 8 run, 7 stand ready
    numbers = [message.args[0] for message in [*taken, *running]]
    assert numbers == list(range(1, 18))


def test_what_finds_no_thread_is_given_back(bed: QueueBed, consumer: InProcess) -> None:
    """Where all threads hang, what was claimed ahead waits for whoever is idle: no failure, no death."""
    bed.fill("noop", 40)
    for message in consumer.take(8):
        consumer.consumer.ack(message)
    running = consumer.take(8)
    consumer.consumer.ack(running.pop())
    consumer.be_quick()
    consumer.take(1)
    assert next(consumer.consumer) is None
    wait_until(lambda: bed.count("state = 'consumed'") == 8, 5, "the others to be given back")
    assert next(consumer.consumer) is None  # and are not claimed ahead again
    assert bed.count("state = 'consumed'") == 8
    assert bed.count("state = 'queued' AND deaths = 0 AND failures = 0") == 23


def test_a_suspect_runs_alone(bed: QueueBed, consumer: InProcess) -> None:
    """It waits until nothing else runs in the process, and nothing begins beside it."""
    bed.fill("noop", 3)
    others = consumer.take(3)
    suspect = bed.send("note", 1)
    bed.run("UPDATE dramatiq.queue SET alone = true, deaths = 2 WHERE state = 'queued'")
    wait_until(
        lambda: next(consumer.consumer) is None and consumer.liveness.someone_waits_alone(QUEUE),
        10,
        "the suspect to be noticed",
    )
    bed.fill("noop", 5)
    assert next(consumer.consumer) is None
    for message in others:
        consumer.consumer.ack(message)
    [alone] = consumer.take(1)
    assert alone.id == suspect
    assert next(consumer.consumer) is None
    wait_until(lambda: bed.count("state = 'consumed'") == 1, 5, "the acks of the others")
    consumer.consumer.ack(alone)
    assert len(consumer.take(5)) == 5


def test_a_suspect_that_another_process_took_blocks_nobody(bed: QueueBed, consumer: InProcess) -> None:
    """A process that was emptying itself for it goes on with its own work."""
    bed.fill("noop", 1)
    consumer.take(1)
    bed.send("note", 1)
    bed.run("UPDATE dramatiq.queue SET alone = true, deaths = 2 WHERE state = 'queued'")
    wait_until(
        lambda: next(consumer.consumer) is None and consumer.liveness.someone_waits_alone(QUEUE),
        10,
        "the suspect to be noticed",
    )
    assert next(consumer.consumer) is None
    bed.run("DELETE FROM dramatiq.queue WHERE alone")
    bed.fill("noop", 3)
    assert len(consumer.take(3)) == 3


def test_a_message_that_is_not_dramatiqs_is_dead_and_stops_nobody(bed: QueueBed, consumer: InProcess) -> None:
    """It is buried with its reason; what was claimed with it runs."""
    bed.fill("noop", 3)
    bed.run("""UPDATE dramatiq.queue SET message = '{"no": "message"}' WHERE message -> 'args' = '[2]'""")
    assert len(consumer.take(2)) == 2
    assert bed.count("state = 'rejected' AND reason LIKE '%%JSON'") == 1


def test_a_closed_route_costs_nothing_and_flows_when_it_opens(bed: QueueBed, consumer: InProcess) -> None:
    """10,000 waiting messages without room: no row is touched, the probe passes, and an opening is heard."""
    bed.run(ROOM.format(0))
    bed.fill("noop", 10_000)
    probe = bed.send("noop", 0, priority=-1)
    [message] = consumer.take(1)
    assert message.id == probe
    assert next(consumer.consumer) is None
    assert bed.count("state = 'consumed'") == 1
    bed.run(ROOM.format("wanted"))
    bed.wake()
    opened = time.monotonic()
    assert len(consumer.take(7)) == 7
    assert time.monotonic() - opened < 1


def test_enqueue_with_a_delay_writes_a_due_time(bed: QueueBed) -> None:
    """No delay queue, no eta in the message; the same message enqueued twice is one."""
    broker = EdgeBroker(bed.dsn, middleware=[])
    message: Message[object] = Message("q", "noop", (1,), {}, {})
    broker.enqueue(message, delay=60_000)
    broker.enqueue(message, delay=60_000)
    [(queue_name, due_in)] = bed.rows("SELECT queue_name, due - now() FROM dramatiq.queue")
    assert queue_name == "q"
    assert 50 < due_in.total_seconds() < 61
    broker.close()


def test_enqueue_without_postgresql_says_so(bed: QueueBed) -> None:
    """With Dramatiq's ConnectionError, which its users know."""
    broker = EdgeBroker(bed.dsn.replace("?host=", "?host=/nowhere"), middleware=[])
    with pytest.raises(BrokerConnectionError, match="not enqueued"):
        broker.enqueue(Message("q", "noop", (), {}, {}))
    broker.close()


def test_consumer_alive_is_the_lock(bed: QueueBed, consumer: InProcess) -> None:
    """True from the first claim until the connection goes."""
    assert next(consumer.consumer) is None
    consumer_id = consumer.liveness.consumer
    assert consumer_id is not None
    alive = "SELECT dramatiq.consumer_alive(%(id)s)"
    assert bed.one(alive, id=consumer_id) is True
    assert bed.one(alive, id=consumer_id ^ 1) is False
    assert bed.one("SELECT count(*) FROM dramatiq.live") == 1
    consumer.liveness.close()
    wait_until(lambda: bed.one(alive, id=consumer_id) is False, 5, "the lock to be gone")


def test_the_screen_shows_depth_rates_and_consumers(bed: QueueBed, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mini-pacs queue --json`, `queue dead` and `queue requeue` on a queue in use."""
    monkeypatch.setenv("COLUMNS", "200")
    cli = CliRunner()
    bed.start(threads=2)
    bed.fill("note", 50)
    bed.send("hold", 1, 30)
    bed.send("no_such_actor")
    bed.send("noop", 1, delay_seconds=3600)
    wait_until(lambda: bed.count() == 3 and bed.count("state = 'rejected'") == 1, 15, "the rest to run")
    wait_until(lambda: bed.one("SELECT coalesce(sum(done), 0) FROM dramatiq.rates") == 50, 10, "the rates")

    shown = json.loads(cli.invoke(app, ["--json"]).stdout)
    assert {(depth["state"], depth["count"], depth["later"]) for depth in shown["depths"]} == {
        ("queued", 1, 1),
        ("consumed", 1, 0),
        ("rejected", 1, 0),
    }
    [flow] = shown["flows"]
    assert flow["done"] == 50
    assert flow["arrived"] >= 51
    [consumer] = shown["consumers"]
    assert (consumer["host"], consumer["queue_names"], consumer["holds"]) == (socket.gethostname(), ["q"], 1)
    assert "running" in cli.invoke(app, []).stdout

    [dead] = json.loads(cli.invoke(app, ["dead", "--json"]).stdout)
    assert dead["actor_name"] == "no_such_actor"
    assert dead["message_id"] in cli.invoke(app, ["dead"]).stdout
    assert cli.invoke(app, ["requeue"]).exit_code == 2
    assert "1 message(s) wait again" in cli.invoke(app, ["requeue", "--all"]).stdout
    wait_until(lambda: bed.count("state = 'rejected'") == 1, 5, "it to die again")


def _plan(cursor: psycopg2.extensions.cursor) -> dict[str, Any]:
    row = cursor.fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]
    return plan


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)
