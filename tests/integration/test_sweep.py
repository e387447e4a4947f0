"""The sweep and open deliveries: a message, claim, probe or deadline was lost between two steps."""

from collections.abc import Iterator

import pytest
from conftest import MakeEdge
from psycopg2 import connect
from support.forwarding import LONG, Forwarding, at_once, forwarding, workers_of
from support.sweep_steps import PROMPT, blocked, claim, prove
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until

from gateway.database.tables import results, selected_deliveries, sweeps
from gateway.diagnosis.watch import watch
from gateway.domain.contract import ALL, PROBE_PACS, SWEEP, Contract
from gateway.domain.routing import Route
from gateway.forward.deliver import forward_to_worker
from gateway.sweep import run
from gateway.sweep.expire import expire
from gateway.sweep.reconcile import reconcile
from gateway.sweep.rescue import rescue

DEAD = "SELECT message ->> 'actor_name' FROM dramatiq.queue WHERE state = 'rejected'"


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process, with a sweep without grace periods."""
    with forwarding(make_edge({"sweep": PROMPT})) as core:
        yield core


def test_rescue_makes_a_delivery_past_its_lease_pending(core: Forwarding) -> None:
    """G6: with a message; a delivery within its lease stays in flight."""
    lost, held = study_of(2)
    core.receive(lost)
    core.receive(held)
    claim(core, lost, lease="-1 s")
    claim(core, held, lease="60 s")
    prove(core, rescue, {"rescued": 1})
    assert core.edge.delivery(lost)["state"] == "pending"
    assert core.edge.delivery(held)["state"] == "in_flight"
    assert core.edge.queued("pacs") == 1


def test_reconcile_enqueues_a_missing_message(core: Forwarding) -> None:
    """G2: a delivery that has a message gets no second one."""
    core.receive(Instance())
    core.edge.run("DELETE FROM dramatiq.queue WHERE queue_name = 'pacs'")
    wait_until(
        lambda: (
            core.edge.one("SELECT count(*) FROM deliveries WHERE next_attempt_at < now() - interval '20 ms'")
            == 2
        ),
        5,
        "the grace",
    )
    prove(core, reconcile, {"messages_sent": 1})
    assert core.edge.queued("pacs") == 1


def test_reconcile_counts_a_claimed_message_for_one_lease_only(core: Forwarding) -> None:
    """G2: a stopped process keeps its lock, and the messages that it claimed but did not start."""
    core.receive(Instance())
    hold = "UPDATE dramatiq.queue SET state = 'consumed', consumer = 7, mtime = now() - %(age)s::interval"
    core.edge.rows(f"{hold} RETURNING 1", age="0 s")
    core.edge.run("UPDATE deliveries SET next_attempt_at = now() - interval '1 hour'")
    assert reconcile(core.sweeping())["messages_sent"] == 0
    core.edge.rows(f"{hold} RETURNING 1", age="1 hour")
    assert reconcile(core.sweeping())["messages_sent"] == 2
    assert reconcile(core.sweeping())["messages_sent"] == 0


def test_reconcile_enqueues_a_missing_probe(core: Forwarding) -> None:
    """G6: the process that should have done it died together with its message."""
    core.edge.run(
        "UPDATE destinations SET breaker = 'open', next_probe_at = now() - interval '1 minute'"
        " WHERE ae_title = 'ORTHANC'"
    )
    prove(core, reconcile, {"probes_sent": 1})
    assert core.edge.one("SELECT message ->> 'actor_name' FROM dramatiq.queue") == "probe_pacs"


def test_reconcile_ends_a_pause_whose_message_is_lost(core: Forwarding) -> None:
    """G6: a pause whose time is not over stays, and so does one without an end."""
    core.edge.run("UPDATE destinations SET paused = true")
    core.edge.run("UPDATE destinations SET paused_until = now() - interval '1 s' WHERE ae_title = 'ORTHANC'")
    core.edge.run("UPDATE destinations SET paused_until = now() + interval '1 h' WHERE ae_title = 'APP01'")
    prove(core, reconcile, {"pauses_ended": 1})
    assert core.edge.one("SELECT ae_title FROM destinations WHERE NOT paused") == "ORTHANC"
    assert not core.edge.one(
        "SELECT count(*) FROM destinations WHERE NOT paused AND paused_until IS NOT NULL"
    )


def test_expire_handles_a_deadline_without_a_message(core: Forwarding) -> None:
    """Another worker is asked as often as allowed, then the result is given up."""
    instance = Instance()
    with workers_of(core):
        delivery = core.owed(instance, Route.WORKERS)
        for expected in ("redispatched", "redispatched", "timed_out"):
            forward_to_worker(core.context, delivery)
            core.overdue()
            prove(core, expire, {expected: 1})
    assert core.edge.queued("sweep") == 3


def test_an_operator_cancels_and_resends(core: Forwarding) -> None:
    """G2: cancelled with its operator; sent again with a message and reset counts."""
    instance = Instance()
    delivery = core.owed(instance)
    selection = selected_deliveries.Selection(delivery_id=delivery)
    with core.edge.database.transaction() as session:
        assert selected_deliveries.cancel(session, selection, by="ana") == [(delivery, 1)]
        [row] = selected_deliveries.find(session, selection)
        assert (row.state, row.settled_by) == ("cancelled", "ana")
        assert selected_deliveries.requeue(session, selection, of=(row.state,)) == [(delivery, 1)]
        [row] = selected_deliveries.find(session, selection)
        assert (row.state, row.attempts, row.settled_by) == ("pending", 0, None)


def test_a_run_records_each_verb_and_a_dry_run_nothing(core: Forwarding) -> None:
    """`mini-pacs status` shows when each verb last ran, with counts."""
    run.sweep(core.sweeping(dry=True))
    with core.edge.database.statement() as session:
        assert sweeps.last_runs(session) == []
    run.sweep(core.sweeping())
    with core.edge.database.statement() as session:
        assert {last.verb for last in sweeps.last_runs(session)} == set(run.VERBS)


# ---- locks -------------------------------------------------------------------------------------------


def test_a_deadline_and_a_settle_of_one_delivery_do_not_deadlock(core: Forwarding) -> None:
    """Both lock the delivery first and the expected result after it."""
    instance = Instance()
    with workers_of(core):
        forward_to_worker(core.context, core.owed(instance, Route.WORKERS))
    [expectation] = core.overdue()
    settling = connect(core.edge.dsn)
    try:
        with settling.cursor() as cursor:
            cursor.execute("SELECT FROM deliveries WHERE route = 'workers' FOR UPDATE")

            def look() -> None:
                with core.edge.database.transaction() as session:
                    results.expire(session, expectation, max_redispatch=0, result_wait=LONG)

            def settle() -> None:
                wait_until(lambda: blocked(core), 10, "the deadline to wait")
                cursor.execute("UPDATE expected_results SET due_at = now()")
                settling.commit()

            at_once(look, settle)
    finally:
        settling.close()


def test_a_repeat_and_a_claim_of_one_instance_do_not_deadlock(core: Forwarding) -> None:
    """A claim refers to the instance, but must not lock it."""
    instance = Instance()
    core.receive(instance)
    claiming = connect(core.edge.dsn)
    try:
        with claiming.cursor() as cursor:
            cursor.execute("SELECT id, instance_id FROM deliveries WHERE route = 'workers' FOR UPDATE")
            [(delivery_id, instance_id)] = cursor.fetchall()

            def claim_it() -> None:
                wait_until(lambda: blocked(core), 10, "the repeat to wait")
                cursor.execute(
                    "INSERT INTO expected_results (delivery_id, instance_id, worker, claim_id, due_at)"
                    " VALUES (%s, %s, 'APP01', gen_random_uuid(), now())",
                    (delivery_id, instance_id),
                )
                claiming.commit()

            at_once(lambda: core.receive(instance), claim_it)
    finally:
        claiming.close()
    errors = core.edge.one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert errors == 0


def test_a_complete_sweep_clears_dead_probes(core: Forwarding) -> None:
    """A probe is not needed once the breaker is closed. A part of a sweep, and a dry run, clear nothing."""
    ae_title = core.edge.configuration.forwarder.orthanc.ae_title
    core.edge.rows(f"SELECT dramatiq.send('pacs', '{PROBE_PACS.actor_name}', '[\"{ae_title}\"]')")
    core.edge.rows("SELECT dramatiq.send('pacs', 'no_such_actor', '[]')")
    core.edge.run("UPDATE dramatiq.queue SET state = 'rejected', deaths = 3")
    run.sweep(core.sweeping(dry=True))
    run.sweep(core.sweeping(), ("purge",))
    core.edge.run("UPDATE destinations SET breaker = 'open' WHERE route = 'pacs'")
    run.sweep(core.sweeping())
    assert core.edge.one("SELECT count(*) FROM dramatiq.queue WHERE state = 'rejected'") == 2
    core.edge.run("UPDATE destinations SET breaker = 'closed'")
    run.sweep(core.sweeping())
    assert core.edge.rows(DEAD) == [("no_such_actor",)]


@pytest.mark.parametrize("contract", [one for one in ALL if one.queue_name == SWEEP.queue_name])
def test_no_dead_message_of_the_queue_sweep_is_an_alarm_for_ever(
    core: Forwarding, contract: Contract
) -> None:
    """The next complete run of the sweep, or of the watch, does its work."""
    core.edge.rows(f"SELECT dramatiq.send('{contract.queue_name}', '{contract.actor_name}', '[1]')")
    core.edge.run("UPDATE dramatiq.queue SET state = 'rejected', deaths = 3")
    run.sweep(core.sweeping())
    watch(core.edge.configuration, core.edge.database, core.context.wakeup)
    assert core.edge.rows(DEAD) == []
