"""PostgreSQL or its network fails: consumers recover by themselves, and nothing is lost."""

import os
import signal
from urllib.parse import urlsplit

import pytest
from support.black_hole import BlackHole
from support.launcher import Processes
from support.queue_setup import QueueSetup
from support.waiting import wait_until

from gateway.database.migrate import migrate
from gateway.lab.layout import free_ports
from gateway.lab.postgres import EmbeddedPostgres

CONNECTIONS = """
SELECT pid, application_name FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'mini-pacs %%' ORDER BY application_name
"""

BACKEND_OF = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND (classid::bigint << 32) | objid::bigint = %(consumer)s
"""


def test_terminated_connections_lose_and_repeat_nothing(queue: QueueSetup) -> None:
    """Running messages are adopted, run once, and count no death.

    The connection with the lock is terminated as well.
    """
    queue.start()
    for number in range(4):
        queue.send("hold", number, 4)
    wait_until(lambda: len(queue.ran()) == 4, 10, "all to have begun")
    [consumer] = [row[0] for row in queue.rows("SELECT id FROM dramatiq.consumers")]
    for pid, _ in queue.rows(CONNECTIONS):
        queue.rows("SELECT pg_terminate_backend(%(pid)s, 5000)", pid=pid)
    wait_until(
        lambda: queue.count(f"state = 'consumed' AND consumer <> {consumer}") == 4, 5, "them to be adopted"
    )
    queue.send("note", 100)
    wait_until(lambda: queue.count() == 0, 15, "the queue to be empty")
    assert sorted(queue.ran()) == [0, 1, 2, 3, 100]
    wait_until(
        lambda: queue.one("SELECT count(*) FROM dramatiq.consumers") == 1, 5, "the old id to be cleared"
    )


def test_a_busy_process_that_loses_its_connection_keeps_its_messages(queue: QueueSetup) -> None:
    """All its threads are busy while a neighbour looks for dead consumers.

    Each message runs once, no death counts.
    """
    queue.start(threads=2)
    for number in range(2):
        queue.send("hold", number, 12)
    wait_until(lambda: len(queue.ran()) == 2, 10, "both to have begun")
    [busy] = [row[0] for row in queue.rows("SELECT id FROM dramatiq.consumers")]
    queue.start(threads=2)
    for _ in range(3):
        # at a random moment between two checks of the neighbour
        queue.rows(BACKEND_OF, consumer=busy)
        wait_until(
            lambda busy=busy: queue.count(f"state = 'consumed' AND consumer <> {busy}") == 2,  # type: ignore[misc]
            5,
            "both to be adopted",
        )
        busy = queue.one("SELECT DISTINCT consumer FROM dramatiq.queue WHERE state = 'consumed'")
    assert queue.count("deaths > 0") == 0
    wait_until(lambda: queue.count() == 0, 20, "both to end")
    assert sorted(queue.ran()) == [0, 1]


def test_a_restart_of_postgresql_under_load_loses_nothing(
    own_postgres: EmbeddedPostgres, processes: Processes
) -> None:
    """It is killed and started twice while messages run: each runs, and none is dead-lettered."""
    own_postgres.start()
    migrate(own_postgres.dsn())
    queue = QueueSetup(own_postgres.dsn(), processes)
    queue.fill("note", 3000)
    queue.start()
    queue.start()
    for floor in (2500, 2000):
        wait_until(lambda floor=floor: queue.count() < floor, 15, "messages to flow")  # type: ignore[misc]
        own_postgres.kill()
        own_postgres.start()
        queue.database.close()
    wait_until(lambda: queue.count() == 0, 30, "the queue to be empty")
    assert set(queue.ran()) == set(range(1, 3001))
    # each of 2 x 8 threads may have been cut off between the actor's commit and its ack, twice
    assert len(queue.ran()) <= 3000 + 4 * 8
    queue.close()


def test_lost_packets_stop_no_message(processes: Processes, own_tcp: EmbeddedPostgres) -> None:
    """The server drops the lock, and others run the messages within 10 s.

    When the network is back, the process that was cut off consumes again, and its late acks delete nothing.
    """
    direct = own_tcp.dsn()
    with BlackHole(urlsplit(direct).port or 0) as hole:
        queue = QueueSetup(direct, processes)
        through = direct.replace(f":{urlsplit(direct).port}/", f":{hole.port}/")
        queue.start(threads=2, dsn=through)
        for number in (100, 200):
            queue.send("hold", number, 20)
        wait_until(lambda: len(queue.ran()) == 2, 10, "both to have begun")
        queue.start(threads=2)
        hole.swallow()
        wait_until(lambda: len(queue.ran()) == 4, 10, "both to begin elsewhere")
        hole.heal()
        wait_until(lambda: queue.one("SELECT count(*) FROM dramatiq.live") == 2, 20, "it to come back")
        # All threads are busy: the consumer's own two messages end first, and their acks name the lost id.
        queue.fill("note", 10)
        wait_until(lambda: queue.count() == 2, 20, "it to go on")
        assert queue.count("state = 'consumed' AND deaths = 0") == 2  # by the other; the death was undone
        wait_until(lambda: queue.count() == 0, 20, "the others to end")
        assert sorted(queue.ran()) == [*range(1, 11), 100, 100, 200, 200]
        queue.close()


def test_a_stopped_backend_does_not_stop_the_consumer(
    own_postgres: EmbeddedPostgres, processes: Processes
) -> None:
    """SIGSTOP of the backend that holds the lock: the claim's deadline passes and a new id takes over."""
    own_postgres.start()
    migrate(own_postgres.dsn())
    queue = QueueSetup(own_postgres.dsn(), processes)
    queue.start()
    queue.send("note", 1)
    wait_until(queue.ran, 10, "the first to run")
    [[pid]] = queue.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'mini-pacs consumer'")
    os.kill(pid, signal.SIGSTOP)
    try:
        queue.send("note", 2)
        wait_until(lambda: 2 in queue.ran(), 15, "the second to run under a new id")
    finally:
        os.kill(pid, signal.SIGCONT)
    queue.close()


@pytest.fixture
def own_tcp(own_postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """Return a migrated PostgreSQL of this test alone, on TCP."""
    [port] = free_ports(1)
    own_postgres._port = port
    own_postgres.start()
    migrate(own_postgres.dsn())
    return own_postgres
