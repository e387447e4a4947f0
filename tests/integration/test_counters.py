"""Counters: nobody waits to count, totals never fall, and no count is lost or counted twice."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup

from gateway.database import counting
from gateway.database.counting import Counting, Flusher
from gateway.database.pool import Database
from gateway.database.tables import counters
from gateway.database.tables.counters import Increment
from gateway.errors import DatabaseUnavailableError, OutcomeUnknownError

A = {"route": "pacs", "destination": "PACS"}
WINDOW = timedelta(minutes=5)


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return a migrated database."""
    return make_edge()


def total(edge: EdgeSetup, name: str) -> float:
    """Return the sum over the labels of a counter."""
    with edge.database.statement() as session:
        return sum(one.total for one in counters.totals(session, [name]))


def test_a_count_is_committed_with_its_transaction(edge: EdgeSetup) -> None:
    """A transaction that is rolled back counts nothing; one that commits counts once."""
    with pytest.raises(RuntimeError):
        _count_and_fail(edge)
    assert total(edge, "settled") == 0
    with edge.database.transaction() as session:
        counters.add(session, [Increment("settled", A), Increment("settled", A, 2), Increment("other", {})])
        counters.add(session, [Increment("settled", A)])
    with edge.database.statement() as session:
        assert [(one.labels, one.total) for one in counters.totals(session, ["settled"])] == [(A, 4)]
        assert [one.total for one in counters.recent(session, WINDOW, ["settled"])] == [4]
        [minute] = counters.by_minute(session, "settled", WINDOW)
        assert (minute.labels, minute.amount) == (A, 4)


def _count_and_fail(edge: EdgeSetup) -> None:
    with edge.database.transaction() as session:
        counters.add(session, [Increment("settled", A)])
        raise RuntimeError


def test_no_transaction_waits_for_another_that_counts_the_same(edge: EdgeSetup) -> None:
    """Two open transactions add to one counter; the one that began later commits first."""
    other = Database(edge.database.dsn, application_name="other", size=1, deadline_seconds=5)
    with edge.database.transaction() as first:
        counters.add(first, [Increment("settled", A)])
        for _ in range(3):
            with other.transaction() as second:
                counters.add(second, [Increment("settled", A)])
        assert total(edge, "settled") == 3
    assert total(edge, "settled") == 4
    other.close()


def test_many_processes_count_without_loss(edge: EdgeSetup) -> None:
    """Each of many connections adds many times; the total and the minutes have all of it."""
    clients, times = 12, 40

    def work(_: int) -> None:
        database = Database(edge.database.dsn, application_name="client", size=1)
        for number in range(times):
            with database.transaction() as session:
                counters.add(
                    session, [Increment("settled", A), Increment("settled", {"route": str(number % 3)}, 2)]
                )
        database.close()

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, range(clients)))
    assert total(edge, "settled") == clients * times * 3
    with edge.database.statement() as session:
        assert sum(one.total for one in counters.recent(session, WINDOW, ["settled"])) == clients * times * 3


def test_what_is_counted_while_postgresql_is_away_is_added_later(edge: EdgeSetup) -> None:
    """A flush that fails keeps its counts and their minutes; the next one adds them once."""
    memory = Counting()
    before = datetime.now(UTC) - timedelta(minutes=3)
    memory.add("seen", A, minute=before)
    memory.add("seen", A)
    with pytest.raises(DatabaseUnavailableError):
        memory.flush(Database("host=127.0.0.1 port=1 dbname=x", application_name="x", size=1))
    memory.add("seen", A)
    memory.flush(edge.database)
    memory.flush(edge.database)
    assert total(edge, "seen") == 3
    with edge.database.statement() as session:
        amounts = Counter({one.minute: one.amount for one in counters.by_minute(session, "seen", WINDOW)})
    assert amounts[before.replace(second=0, microsecond=0)] == 1
    assert amounts.total() == 3


def test_a_flush_without_an_answer_counts_nothing_twice(
    edge: EdgeSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit may have succeeded, so its counts are not added again."""
    memory = Counting()
    memory.add("seen", A)
    with monkeypatch.context() as patch:
        patch.setattr(counters, "add", _commits_and_loses_the_answer)
        with pytest.raises(OutcomeUnknownError):
            memory.flush(edge.database)
    memory.flush(edge.database)
    assert total(edge, "seen") == 0


def _commits_and_loses_the_answer(*_: object) -> None:
    raise OutcomeUnknownError("lost")


def test_memory_is_bounded_and_the_total_is_whole(edge: EdgeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels beyond the limit become `other`; minutes beyond the limit are merged."""
    monkeypatch.setattr(counting, "MAX_SERIES", 5)
    monkeypatch.setattr(counting, "MAX_WAITING", 8)
    memory = Counting()
    for number in range(50):
        memory.add("seen", {"who": f"P{number}"}, minute=datetime.now(UTC) - timedelta(minutes=number))
    memory.flush(edge.database)
    with edge.database.statement() as session:
        found = {one.labels["who"]: one.total for one in counters.totals(session, ["seen"])}
    assert found == {"P0": 1, "P1": 1, "P2": 1, "P3": 1, "P4": 1, "other": 45}


def test_the_flusher_writes_the_last_counts_when_it_stops(edge: EdgeSetup) -> None:
    """What was counted just before the stop is in PostgreSQL; a flush that fails stops no other."""
    memory, numbers = Counting(), count()

    def fails() -> None:
        next(numbers)
        raise DatabaseUnavailableError("away")

    flusher = Flusher(fails, lambda: memory.flush(edge.database))
    flusher.start()
    memory.add("seen", A)
    flusher.stop()
    assert total(edge, "seen") == 1
    assert next(numbers) == 1


def test_minutes_are_forgotten_and_totals_stay(edge: EdgeSetup) -> None:
    """A total never falls: `forget` deletes old minutes only."""
    old = datetime.now(UTC) - counters.KEPT - timedelta(minutes=2)
    with edge.database.transaction() as session:
        counters.add(session, [Increment("settled", A, 5, old), Increment("settled", A)])
    with edge.database.statement() as session:
        assert counters.forget(session) == 1
        assert counters.forget(session) == 0
    assert total(edge, "settled") == 6
