"""Deliveries to workers that are claimed with their messages; the same statement chooses the workers."""

import time
from collections.abc import Iterator
from datetime import timedelta

import psycopg2
import pytest
from conftest import MakeEdge
from support.consuming import OF_THE_PACS, Consuming
from support.forwarding import Forwarding, at_once, forwarding, workers_of
from support.statements import noted
from support.synthetic_instances import study_of
from support.versions import versions
from support.waiting import wait_until

from actors.message_deliveries import terms_of
from actors.queue.in_flight import EndingKind, InFlightMessage
from gateway.database.connection import connect
from gateway.database.queries import Query
from gateway.database.session import DedicatedSession
from gateway.database.tables import messages
from gateway.database.tables.deliveries import DeliveryClaim
from gateway.database.tables.messages import DeliveryTerms, WorkerTerms
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.forward.deliver import ClaimedBefore, forward_to_worker

pytestmark = pytest.mark.guarantee("G2")

NO_WAIT_SECONDS = 5.0
"""A claim that waited for the lock would take as long as the test holds it: for ever."""
LEASE, RESULT_WAIT = timedelta(seconds=60), timedelta(seconds=600)
TERMS = WorkerTerms("default", LEASE, RESULT_WAIT)
WORKERS = ["APP01", "APP02", "APP03", "APP04", "APP05"]


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield an edge with five workers, each of which may owe two results."""
    with forwarding(make_edge({"forwarder": {"worker_max_outstanding": 2}})) as core:
        yield core


@pytest.fixture
def consuming(core: Forwarding) -> Iterator[Consuming]:
    """Yield a consumer with many threads."""
    consuming = of_the_workers(core)
    try:
        yield consuming
    finally:
        consuming.close()


def of_the_workers(core: Forwarding, threads: int = 20) -> Consuming:
    """Return a consumer of the queue of the workers."""
    return Consuming(core.edge.dsn, TERMS, threads, queue="workers")


def owed(core: Forwarding, count: int) -> list[int]:
    """Return the ids of the deliveries to workers of that many new instances."""
    return [core.owed(instance, Route.WORKERS) for instance in study_of(count)]


def held(message: InFlightMessage) -> DeliveryClaim | None:
    """Take the delivery of a message, as its actor does."""
    return message.take_delivery(message.args[0], None)


def states(core: Forwarding) -> list[str]:
    """Return the states of the deliveries to workers, by their ids."""
    return [
        row[0] for row in core.edge.rows("SELECT state FROM deliveries WHERE route = 'workers' ORDER BY id")
    ]


def expectations(core: Forwarding) -> list[tuple[int, str, str, str]]:
    """Return delivery, worker, claim and state of each expected result."""
    return core.edge.rows(
        "SELECT delivery_id, worker, claim_id::text, state FROM expected_results ORDER BY id"
    )


def test_one_statement_chooses_a_worker_for_each_message(core: Forwarding, consuming: Consuming) -> None:
    """In turn, twice for each worker; a result is expected of each, and a message runs at its deadline."""
    ids = owed(core, 10)
    claims = [held(message) for message in consuming.take(10)]
    assert [(claim.delivery_id, claim.destination) for claim in claims if claim] == list(
        zip(ids, WORKERS * 2, strict=True)
    )
    assert states(core) == ["in_flight"] * 10
    assert expectations(core) == [
        (claim.delivery_id, claim.destination, claim.claim_id, "owed") for claim in claims if claim
    ]
    assert (
        core.edge.rows(
            "SELECT q.queue_name, q.message -> 'actor_name', q.message -> 'args' = jsonb_build_array(e.id),"
            "    q.due = e.due_at, q.message ->> 'message_id' = q.message_id::text, q.state::text,"
            "    e.due_at - e.asked_at"
            " FROM expected_results e JOIN dramatiq.queue q USING (message_id)"
        )
        == [("sweep", "expire_result", True, True, True, "queued", RESULT_WAIT)] * 10
    )


def test_an_actor_sends_to_the_chosen_worker_without_another_claim(
    core: Forwarding, consuming: Consuming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the delivery of its message; the bytes arrive at that worker."""
    [delivery_id] = owed(core, 1)
    [message] = consuming.take(1)
    claim = held(message)
    assert claim is not None
    statements = noted(monkeypatch)
    with workers_of(core) as workers:
        outcome = forward_to_worker(core.context, delivery_id, take=lambda _: ClaimedBefore(claim, 0.0))
        assert outcome is Outcome.DELIVERED
        assert [name for name, worker in workers.items() if worker.taken] == [claim.destination]
    assert not [text for text in statements if "claim_with_worker" in text]
    assert states(core) == ["delivered"]


def test_a_delivery_that_no_actor_took_is_pending_and_no_result_is_expected(
    core: Forwarding, consuming: Consuming
) -> None:
    """Its message runs again, and the worker has its place back."""
    owed(core, 1)
    [message] = consuming.take(1)
    consuming.consumer.ack(message)
    wait_until(lambda: states(core) == ["pending"], 10, "the release")
    assert message.ending.kind is EndingKind.UNSTARTED
    assert expectations(core) == []
    assert core.edge.queued("sweep") == 0
    wait_until(lambda: core.edge.queued("workers") == 1, 10, "the message to be given back")
    [again] = consuming.take(1)
    assert held(again) is not None


def test_what_was_not_started_is_released_at_the_end_of_the_process(
    core: Forwarding, consuming: Consuming
) -> None:
    """Only the claims of this process: a delivery that another one holds stays in flight."""
    owed(core, 2)
    first, second = consuming.take(2)
    kept = held(second)
    consuming.consumer.requeue([first, second])
    assert sorted(states(core)) == ["in_flight", "pending"]
    assert [row[2] for row in expectations(core)] == [kept.claim_id if kept else None]


def test_the_turn_goes_on_between_both_ways_of_claiming(core: Forwarding, consuming: Consuming) -> None:
    """Three with their messages, two by their actors, three with their messages: no worker twice in a row."""
    chosen = []
    with workers_of(core):
        for count in (3, 3):
            owed(core, count)
            chosen += [claim.destination for message in consuming.take(count) if (claim := held(message))]
            if len(chosen) == 3:
                for delivery_id in owed(core, 2):
                    core.edge.run("DELETE FROM dramatiq.queue WHERE delivery_id = %(id)s", id=delivery_id)
                    assert forward_to_worker(core.context, delivery_id) is Outcome.DELIVERED
                    query = "SELECT destination FROM deliveries WHERE id = %(id)s"
                    chosen.append(core.edge.one(query, id=delivery_id))
    assert sorted(chosen[:5]) == WORKERS
    assert chosen[5:] == chosen[:3]


def test_several_processes_keep_the_limit_of_each_worker(core: Forwarding) -> None:
    """Four processes claim twenty messages at once, in either way: each worker owes two."""
    owed(core, 20)
    consumers = [of_the_workers(core, threads=4) for _ in range(4)]
    with_their_messages: list[DeliveryClaim] = []

    def claim(consuming: Consuming) -> None:
        for _ in range(5):
            if (message := next(consuming.consumer)) is None:
                continue
            if (one := held(message)) is not None:
                with_their_messages.append(one)
            else:
                forward_to_worker(core.context, message.args[0])

    try:
        with workers_of(core):
            at_once(*(lambda one=one: claim(one) for one in consumers))
        counts = core.edge.rows("SELECT worker, count(*) FROM expected_results GROUP BY worker")
        assert dict(counts) == dict.fromkeys(WORKERS, 2)
        assert len(with_their_messages) >= 4, "at least the first claim chooses workers"
    finally:
        for consuming in consumers:
            consuming.close()


def test_a_worker_that_may_get_nothing_is_not_chosen(core: Forwarding, consuming: Consuming) -> None:
    """Paused, away, not configured, or its row is locked, for example because a failure is being noted."""
    core.edge.run("UPDATE destinations SET paused = true WHERE ae_title = 'APP01'")
    core.edge.run("UPDATE destinations SET breaker = 'open' WHERE ae_title = 'APP02'")
    core.edge.run("UPDATE destinations SET configured = false WHERE ae_title = 'APP03'")
    owed(core, 4)
    holder = psycopg2.connect(core.edge.dsn)
    try:
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM destinations WHERE ae_title = 'APP04' FOR UPDATE")
            began = time.monotonic()
            claims = [held(message) for message in consuming.take(4)]
            assert time.monotonic() - began < NO_WAIT_SECONDS
    finally:
        holder.close()
    assert [claim and claim.destination for claim in claims] == ["APP05", "APP05", None, None]
    assert states(core) == ["in_flight", "in_flight", "pending", "pending"]


def test_what_one_statement_cannot_decide_is_left_to_the_actor(
    core: Forwarding, consuming: Consuming
) -> None:
    """Versions, a locked delivery, one that a worker has timed out on, and one that waits for a worker."""
    versions(core)
    locked, timed_out, waiting, plain = owed(core, 4)
    with workers_of(core):
        forward_to_worker(core.context, timed_out)
    core.edge.run("UPDATE expected_results SET state = 'timed_out'")
    core.edge.run(
        "UPDATE deliveries SET state = 'pending', next_attempt_at = now() WHERE id = %(id)s", id=timed_out
    )
    core.edge.run("UPDATE deliveries SET waits_for = 'APP05' WHERE id = %(id)s", id=waiting)
    holder = psycopg2.connect(core.edge.dsn)
    try:
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM deliveries WHERE id = %s FOR UPDATE", (locked,))
            began = time.monotonic()
            found = {message.args[0]: held(message) for message in consuming.take(6)}
            assert time.monotonic() - began < NO_WAIT_SECONDS
    finally:
        holder.close()
    assert [delivery_id for delivery_id, claim in found.items() if claim is not None] == [plain]
    with workers_of(core):
        for delivery_id in (locked, timed_out, waiting):
            assert forward_to_worker(core.context, delivery_id) is Outcome.DELIVERED


def test_a_locked_instance_delays_no_claim(core: Forwarding, consuming: Consuming) -> None:
    """A purge locks instances like this; writing the expected result would wait for it."""
    owed(core, 1)
    holder = psycopg2.connect(core.edge.dsn)
    try:
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM instances FOR UPDATE")
            began = time.monotonic()
            [message] = consuming.take(1)
            assert time.monotonic() - began < NO_WAIT_SECONDS
    finally:
        holder.close()
    assert held(message) is None


@pytest.mark.parametrize("route", [Route.PACS, Route.WORKERS])
def test_of_two_messages_of_a_delivery_one_holds_it(core: Forwarding, route: Route) -> None:
    """Retrying by hand leaves the old message. The other one's actor finds the delivery claimed."""
    delivery_id = core.owed(study_of(1)[0], route)
    core.edge.run(
        "SELECT dramatiq.send(%(queue)s, %(actor)s, jsonb_build_array(%(id)s), 4, now(), %(id)s)",
        queue=route.value, actor=f"forward_to_{'pacs' if route is Route.PACS else 'worker'}", id=delivery_id,
    )  # fmt: skip
    consuming = Consuming(core.edge.dsn, OF_THE_PACS if route is Route.PACS else TERMS, queue=route.value)
    try:
        claims = [held(message) for message in consuming.take(2)]
    finally:
        consuming.close()
    assert [claim is None for claim in claims] == [False, True]


def test_a_process_that_died_with_all_places_does_not_close_the_queue(core: Forwarding) -> None:
    """Its messages can be claimed again though no worker is free, and its deliveries reach workers."""
    owed(core, 10)
    dying = of_the_workers(core)
    assert all(held(message) for message in dying.take(10))
    assert core.edge.one("SELECT dramatiq.room('workers', 20)") == 0
    close(core, dying)
    core.edge.run("UPDATE dramatiq.queue SET state = 'queued', consumer = NULL WHERE queue_name = 'workers'")
    assert core.edge.one("SELECT dramatiq.room('workers', 20)") == 10
    another = of_the_workers(core)
    try:
        claimed = another.take(10)
        assert [held(message) for message in claimed] == [None] * 10
        with workers_of(core):
            for message in claimed:
                assert forward_to_worker(core.context, message.args[0]) is Outcome.DELIVERED
    finally:
        another.close()
    assert core.edge.one("SELECT dramatiq.room('workers', 20)") == 0
    assert core.edge.one("SELECT count(*) FROM expected_results WHERE state = 'owed'") == 10


def test_a_plan_made_while_the_tables_were_empty_uses_the_indexes(core: Forwarding) -> None:
    """The claim reads the rows of its messages only, also of tables that have grown since it was planned."""
    connection = connect(core.edge.dsn, application_name="test", deadline_seconds=30)
    session = DedicatedSession(connection)
    messages.prepare_consumer(session)
    owed(core, 1)
    assert len(messages.claim(session, "workers", 5, 7, terms=TERMS).held) == 1
    core.edge.run(
        "INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,"
        "    transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address,"
        "    kind, file_name)"
        " SELECT '1.9.' || n, '1.9', '1.9.0', '1.2', '1.2', sha256('a'), 1, 'CT1', 'EDGE', '10.1.2.3',"
        "    'original', n || '.dcm' FROM generate_series(1, 5000) AS n"
    )
    core.edge.run(
        "WITH owed AS ("
        "    INSERT INTO deliveries (instance_id, route, target, priority, state, next_attempt_at)"
        "    SELECT id, 'workers', 'default', 4, 'pending', now() FROM instances"
        "    WHERE study_instance_uid = '1.9' RETURNING id, instance_id)"
        " INSERT INTO expected_results (delivery_id, instance_id, worker, claim_id, due_at, state)"
        " SELECT id, instance_id, 'APP01', gen_random_uuid(), now(), 'timed_out' FROM owed"
    )
    owed(core, 3)
    session.script("BEGIN")
    claim = messages.claim(session, "workers", 3, 7, terms=TERMS)
    query = (
        "SELECT relname::text, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)"
        " FROM pg_stat_xact_user_tables WHERE relname IN ('instances', 'deliveries', 'expected_results')"
    )
    read = {table: int(rows) for table, rows in session.all(Query("test", query))}
    connection.close()
    assert len(claim.held) == 3
    assert len(read) == 3
    assert max(read.values()) < 100, read


def close(core: Forwarding, consuming: Consuming) -> None:
    """Close a consumer, and wait until PostgreSQL knows that its process is gone."""
    consuming.close()
    wait_until(
        lambda: core.edge.one(
            "SELECT count(*) FROM deliveries d JOIN dramatiq.live ON live.id = d.claimed_by"
            " WHERE d.state = 'in_flight'"
        ) == 0,
        10,
        "the lock of the process to be freed",
    )  # fmt: skip


def test_a_claim_does_not_wait_while_another_process_chooses(core: Forwarding, consuming: Consuming) -> None:
    """The messages are claimed; their actors claim the deliveries."""
    owed(core, 2)
    holder = psycopg2.connect(core.edge.dsn)
    try:
        with holder.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('mini_pacs.worker_turn', 0))")
            claimed = consuming.take(2)
    finally:
        holder.close()
    assert [held(message) for message in claimed] == [None, None]
    with workers_of(core):
        assert forward_to_worker(core.context, claimed[0].args[0]) is Outcome.DELIVERED


def test_a_claim_whose_process_died_is_taken_over_for_the_same_worker(core: Forwarding) -> None:
    """It expects one result, under the new claim."""
    [delivery_id] = owed(core, 1)
    dying = of_the_workers(core)
    [message] = dying.take(1)
    claim = held(message)
    assert claim is not None
    with workers_of(core):
        assert forward_to_worker(core.context, delivery_id) is None, "its process is alive"
        close(core, dying)
        assert forward_to_worker(core.context, delivery_id) is Outcome.DELIVERED
    assert [row[:2] for row in expectations(core)] == [(delivery_id, claim.destination)]


@pytest.mark.parametrize("affinity", ["instance", "study"])
def test_workers_of_a_study_are_chosen_by_the_actor(make_edge: MakeEdge, affinity: str) -> None:
    """The claim of such a delivery wakes others of the study; all other applications have terms."""
    edge = make_edge({"forwarder": {"worker_affinity": affinity}})
    forwarder = edge.configuration.forwarder
    terms = terms_of(forwarder, "workers")
    if affinity == "study":
        assert terms is None
    else:
        wait = timedelta(seconds=forwarder.applications_in_force["default"].result_timeout_seconds)
        assert terms == WorkerTerms("default", timedelta(seconds=forwarder.lease_seconds), wait)
    assert isinstance(terms_of(forwarder, "pacs"), DeliveryTerms)
    assert terms_of(forwarder, "maintenance") is None
