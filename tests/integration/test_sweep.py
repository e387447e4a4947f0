"""The four verbs of the sweep: each mends what fell between two steps, twice is once, dry is never."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import MakeEdge
from forwarding import LONG, Forwarding, at_once, forwarding, pacs_of, workers_of
from psycopg2 import connect
from specimens import Instance, result_of, study_of
from waiting import wait_until

from gateway.domain.instance import Place
from gateway.domain.routing import Route
from gateway.forward.attempt import forward_to_pacs, forward_to_worker
from gateway.spool import ORPHANED, Spool
from gateway.store import deliveries, results, sweeping
from gateway.store.instances import Verdict
from gateway.sweep import run
from gateway.sweep.expire import expire
from gateway.sweep.purge import purge
from gateway.sweep.reconcile import reconcile
from gateway.sweep.rescue import rescue
from gateway.sweep.verbs import Counts, Sweeping

OLD = time.time() - 30 * 3600

TABLES = (
    "instances",
    "deliveries",
    "attempts",
    "expected_results",
    "dramatiq.queue",
    "destinations",
    "sweeps",
)


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """The core, in this process, with a sweep that waits for nothing."""
    edge = make_edge({"sweep": {"orphan_grace_seconds": 0.01, "reconcile_grace_seconds": 0.01}})
    with forwarding(edge) as core:
        yield core


def state_of(core: Forwarding) -> object:
    """Every row and every file."""
    rows = [core.edge.rows(f"SELECT t::text FROM {table} t ORDER BY 1") for table in TABLES]  # noqa: S608
    return rows, sorted(map(str, core.edge.configuration.edge.data_root.rglob("*")))


def found(counts: Counts) -> Counts:
    """What was not nothing."""
    return {name: count for name, count in counts.items() if count}


def prove(core: Forwarding, verb: Callable[[Sweeping], Counts], expected: Counts) -> None:
    """Dry it changes nothing and counts the same; then it does it; again it finds nothing."""
    before = state_of(core)
    assert found(verb(core.sweeping(dry=True))) == expected
    assert state_of(core) == before
    assert found(verb(core.sweeping())) == expected
    assert found(verb(core.sweeping())) == {}


def age(*paths: Path) -> None:
    """As if written long ago (the change time cannot be set: the graces of these tests are short)."""
    for path in paths:
        os.utime(path, (OLD, OLD))
    wait_until(lambda: all(time.time() - path.stat().st_ctime > 0.02 for path in paths), 5, "age")


def claim(core: Forwarding, instance: Instance, *, lease: str) -> None:
    """In flight, by a consumer of this process."""
    core.edge.run("DELETE FROM dramatiq.queue")
    core.edge.run(
        "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), claimed_by = %(consumer)s,"
        " lease_until = now() + %(lease)s::interval FROM instances i"
        " WHERE i.id = instance_id AND i.sop_instance_uid = %(uid)s AND route = 'pacs'",
        consumer=core.context.consumer(),
        lease=lease,
        uid=instance.sop_instance_uid,
    )


def test_rescue_brings_back_what_is_past_its_lease(core: Forwarding) -> None:
    """G6: pending with a message; what is within its lease stays in flight."""
    lost, held = study_of(2)
    core.receive(lost)
    core.receive(held)
    claim(core, lost, lease="-1 s")
    claim(core, held, lease="60 s")
    prove(core, rescue, {"rescued": 1})
    assert core.edge.delivery(lost)["state"] == "pending"
    assert core.edge.delivery(held)["state"] == "in_flight"
    assert core.edge.queued("pacs") == 1


def test_reconcile_gives_a_message_to_what_has_none(core: Forwarding) -> None:
    """G2: nothing waits for ever; what has a message gets no second one."""
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


def test_reconcile_believes_a_message_that_is_held_for_a_lease_only(core: Forwarding) -> None:
    """G2: a process that is stopped keeps its lock, and what it claimed without having begun with it."""
    core.receive(Instance())
    hold = "UPDATE dramatiq.queue SET state = 'consumed', consumer = 7, mtime = now() - %(age)s::interval"
    core.edge.rows(f"{hold} RETURNING 1", age="0 s")
    core.edge.run("UPDATE deliveries SET next_attempt_at = now() - interval '1 hour'")
    assert reconcile(core.sweeping())["messages_sent"] == 0
    core.edge.rows(f"{hold} RETURNING 1", age="1 hour")
    assert reconcile(core.sweeping())["messages_sent"] == 2
    assert reconcile(core.sweeping())["messages_sent"] == 0


def test_reconcile_probes_a_breaker_that_nobody_probes(core: Forwarding) -> None:
    """G6: the process that should have done it died with its message."""
    core.edge.run(
        "UPDATE destinations SET breaker = 'open', next_probe_at = now() - interval '1 minute'"
        " WHERE ae_title = 'ORTHANC'"
    )
    prove(core, reconcile, {"probes_sent": 1})
    assert core.edge.one("SELECT message ->> 'actor_name' FROM dramatiq.queue") == "probe_pacs"


def test_reconcile_orphans_a_file_without_a_row_only_when_its_receiver_is_gone(core: Forwarding) -> None:
    """Never deleted, and never taken from a receiver that may be about to commit it."""
    instance = Instance()
    spool = Spool(core.edge.configuration.edge.data_root)
    spool.open_receiver()
    part = spool.begin()
    part.write(instance.data_set())
    path = part.keep(instance.study_instance_uid, [f"{instance.sop_instance_uid}.dcm"])
    age(path)
    assert found(reconcile(core.sweeping())) == {}
    assert spool._receiver_lock is not None
    os.close(spool._receiver_lock)  # as its death does
    assert found(reconcile(core.sweeping(dry=True))) == {"parts_removed": 1}
    core.edge.heal()  # once its receiver's name is gone, the file is as young as that
    assert core.edge.orphans() == [f"{instance.sop_instance_uid}.dcm"]
    part.discard()


def test_a_receiver_that_starts_while_reconcile_looks_has_a_folder(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reconcile comes between the making of its lock and the locking: it took the folder of a living one."""
    lock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        reconcile(core.sweeping())
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    spool = Spool(core.edge.configuration.edge.data_root)
    spool.open_receiver()
    part = spool.begin()
    reconcile(core.sweeping())
    assert part.path.exists()
    part.discard()
    spool.close_receiver()


def test_reconcile_moves_a_file_to_where_its_row_says(core: Forwarding) -> None:
    """A crash between the settle and the move."""
    instance = Instance()
    core.receive(instance)
    core.edge.run("UPDATE instances SET place = 'queued'")
    age(*core.edge.files().values())
    prove(core, reconcile, {"moved": 1})
    assert list(core.edge.files()) == [f"queued/{instance.sop_instance_uid}.dcm"]


def test_reconcile_ends_a_move_that_died_in_the_middle(core: Forwarding) -> None:
    """G6: between the link in the new place and the unlink in the old one; the file stays, once."""
    instance = Instance()
    core.receive(instance)
    [path] = core.edge.files().values()
    target = core.spool.path(Place.SENT, instance.study_instance_uid, path.name)
    target.parent.mkdir()
    os.link(path, target)
    core.edge.run("UPDATE instances SET place = 'sent'")
    age(path)
    prove(core, reconcile, {"moved": 1})
    assert list(core.edge.files()) == [f"sent/{path.name}"]
    core.edge.check_ledger([instance])


def test_reconcile_tells_of_a_row_without_a_file(core: Forwarding) -> None:
    """G2: counted and logged each time, for as long as it is owed."""
    core.receive(Instance())
    [path] = core.edge.files().values()
    path.unlink()
    for _ in range(2):
        assert found(reconcile(core.sweeping())) == {"files_missing": 1}
    assert core.edge.log(outcome="file_missing", level="error")


def test_a_move_never_takes_what_is_being_received_under_that_name(core: Forwarding) -> None:
    """G3: the second version of a UID stands in incoming/ for a moment while the first is moved on."""
    first = Instance()
    second = Instance(first.sop_instance_uid, first.study_instance_uid, payload=b"\x03\x03" * 512)
    core.receive(first)
    name = f"{first.sop_instance_uid}.dcm"
    assert core.spool.move(Place.QUEUED, first.study_instance_uid, name, was=Place.INCOMING)
    part = core.spool.begin()
    part.write(second.data_set())
    arriving = part.keep(second.study_instance_uid, [name])
    assert core.spool.move(Place.SENT, first.study_instance_uid, name, was=Place.QUEUED)
    assert core.edge.files()[f"sent/{name}"].read_bytes().endswith(first.data_set())
    assert arriving.read_bytes() == second.data_set()
    core.edge.files()[f"sent/{name}"].unlink()
    assert not core.spool.move(Place.FAILED, first.study_instance_uid, name, was=Place.QUEUED)
    assert arriving.exists()
    part.discard()


def test_expire_acts_on_deadlines_that_no_message_caught(core: Forwarding) -> None:
    """Asked of another worker as often as is allowed, then given up."""
    instance = Instance()
    with workers_of(core):
        delivery = core.owed(instance, Route.WORKERS)
        for expected in ("redispatched", "redispatched", "timed_out"):
            forward_to_worker(core.context, delivery)
            core.overdue()
            prove(core, expire, {expected: 1})
    assert core.edge.queued("sweep") == 3


def delivered(core: Forwarding, instance: Instance) -> None:
    """The instance is at the PACS and at a worker, and its result came."""
    delivery = core.owed(instance)
    forward_to_pacs(core.context, delivery)
    forward_to_worker(core.context, core.edge.delivery(instance, "workers")["id"])
    worker = core.edge.delivery(instance, "workers")["destination"]
    result = result_of(instance)
    core.receive(result, worker=worker)
    forward_to_pacs(core.context, core.edge.delivery(result)["id"])


def grow_old(core: Forwarding) -> None:
    """Everything happened thirty hours ago."""
    core.edge.run("UPDATE instances SET received_at = received_at - interval '30 hours'")
    core.edge.run("UPDATE deliveries SET settled_at = settled_at - interval '30 hours'")
    core.edge.run("DELETE FROM dramatiq.queue")


def test_purge_removes_what_is_delivered_and_old_and_nothing_else(core: Forwarding) -> None:
    """Never anything that is owed or dead, however old; and nothing that is recent."""
    old, owed, dead, recent = study_of(4)
    with pacs_of(core), workers_of(core):
        delivered(core, old)
        core.receive(owed)
        core.receive(dead)
        claim(core, dead, lease="1 s")
        core.edge.run(
            "UPDATE deliveries SET state = 'dead', claim_id = NULL, lease_until = NULL, settled_at = now()"
            " WHERE state = 'in_flight'"
        )
        grow_old(core)
        delivered(core, recent)
    kept = {instance.sop_instance_uid for instance in (owed, dead, recent)}
    prove(core, purge, {"purged": 2})
    left = {
        row[0] for row in core.edge.rows("SELECT sop_instance_uid FROM instances WHERE kind = 'original'")
    }
    assert left == kept
    assert {name.split("/")[1].removesuffix(".dcm") for name in core.edge.files()} >= kept
    assert len(core.edge.files()) == 4


def test_purge_empties_orphaned_after_the_retention(core: Forwarding) -> None:
    """By the time of the move, which is the file's change time."""
    folder = core.edge.configuration.edge.data_root / ORPHANED / "1.2.3"
    folder.mkdir()
    (folder / "1.2.3.4.dcm").write_bytes(b"x")
    assert found(purge(core.sweeping())) == {}
    assert core.edge.orphans() == ["1.2.3.4.dcm"]


def test_a_repeat_while_its_instance_is_purged_is_received_as_new(core: Forwarding) -> None:
    """G4: it waits for the purge, and its file is its own."""
    instance = Instance()
    with pacs_of(core), workers_of(core):
        delivered(core, instance)
    grow_old(core)
    repeat: list[Verdict] = []

    def send_again() -> None:
        repeat.append(core.receive(instance)[0].verdict)

    def purge_slowly() -> None:
        sweeping_ = core.sweeping()
        with core.edge.database.transaction() as session:
            rows = sweeping.lock_purgeable(session, retention=sweeping_.retention, limit=10)
            assert len(rows) == 2
            at_wait = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            sender = threading.Thread(target=send_again)
            sender.start()
            wait_until(lambda: core.edge.one(at_wait) == 1, 10, "the repeat to wait")
            for row in rows:
                core.spool.remove(row.place, row.study_instance_uid, row.file_name)
            sweeping.delete_instances(session, [row.instance_id for row in rows])
        sender.join(30)

    purge_slowly()
    assert repeat == [Verdict.STORED]
    core.edge.check_ledger([instance])


def test_a_run_notes_each_verb_and_a_dry_one_nothing(core: Forwarding) -> None:
    """`mini-pacs status` shows when each verb last ran; all of them, with counts."""
    run.sweep(core.sweeping(dry=True))
    with core.edge.database.statement() as session:
        assert sweeping.last_runs(session) == []
    run.sweep(core.sweeping())
    with core.edge.database.statement() as session:
        assert {last.verb for last in sweeping.last_runs(session)} == set(run.VERBS)


# ---- locks -----------------------------------------------------------------------------------------


def blocked(core: Forwarding) -> bool:
    """Tell whether somebody waits for a lock."""
    return bool(core.edge.one("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))


def test_a_deadline_and_a_settle_of_one_delivery_do_not_deadlock(core: Forwarding) -> None:
    """Both lock the delivery first and what is expected of it after."""
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
    """A claim refers to the instance, which it must not have to lock for that."""
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


def test_an_operator_cancels_and_resends(core: Forwarding) -> None:
    """G2: cancelled by whom; owed again with a message and a clean count."""
    instance = Instance()
    delivery = core.owed(instance)
    selection = deliveries.Selection(delivery_id=delivery)
    with core.edge.database.transaction() as session:
        assert deliveries.cancel(session, selection, by="ana") == [(delivery, 1)]
        [row] = deliveries.find(session, selection)
        assert (row.state, row.settled_by) == ("cancelled", "ana")
        assert deliveries.requeue(session, selection, of=(row.state,)) == [(delivery, 1)]
        [row] = deliveries.find(session, selection)
        assert (row.state, row.attempts, row.settled_by) == ("pending", 0, None)
