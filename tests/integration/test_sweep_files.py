"""The sweep and the spool.

Files that are not where their row says, have no row, or are not needed any more.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, forwarding, keep, pacs_of, workers_of
from support.sweep_steps import PROMPT, blocked, claim, found, prove
from support.synthetic_instances import Instance, result_of, study_of
from support.waiting import wait_until

from gateway.database.session import Session
from gateway.database.tables import sweeps
from gateway.database.tables.instances import ReceptionVerdict, StoredInstance
from gateway.domain.instance import Place
from gateway.forward.deliver import forward_to_pacs, forward_to_worker
from gateway.spool.places import ORPHANED
from gateway.spool.spool import Spool
from gateway.sweep import orphans
from gateway.sweep.context import SweepContext
from gateway.sweep.purge import purge
from gateway.sweep.reconcile import reconcile

OLD = time.time() - 30 * 3600


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process, with a sweep without grace periods."""
    with forwarding(make_edge({"sweep": PROMPT})) as core:
        yield core


def age(*paths: Path) -> None:
    """Make the file old; its change time cannot be set, so these tests use short grace periods."""
    for path in paths:
        os.utime(path, (OLD, OLD))
    wait_until(lambda: all(time.time() - path.stat().st_ctime > 0.02 for path in paths), 5, "age")


def test_reconcile_orphans_a_file_without_a_row_only_when_its_receiver_is_gone(core: Forwarding) -> None:
    """The file is never deleted, and never taken from a receiver that may still commit it."""
    instance = Instance()
    spool = Spool(core.edge.configuration.edge.data_root)
    spool.open_receiver()
    part = spool.begin()
    part.write(instance.data_set())
    path = keep(part, instance.study_instance_uid, [f"{instance.sop_instance_uid}.dcm"])
    age(path)
    assert found(reconcile(core.sweeping())) == {}
    assert spool._receiver_lock is not None
    os.close(spool._receiver_lock)  # as its death does
    assert found(reconcile(core.sweeping(dry=True))) == {"parts_removed": 1}
    core.edge.heal()  # when the receiver's name is removed, the file's change time becomes that moment
    assert core.edge.orphans() == [f"{instance.sop_instance_uid}.dcm"]
    part.discard()


def test_reconcile_leaves_the_folder_of_a_starting_receiver(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reconcile runs between the creation of its lock file and the locking."""
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
    assert Path(part.path).exists()
    part.discard()
    spool.close_receiver()


def test_reconcile_moves_a_file_to_where_its_row_says(core: Forwarding) -> None:
    """A crash between the settle and the move left it behind."""
    instance = Instance()
    core.receive(instance)
    core.edge.run("UPDATE instances SET place = 'queued'")
    age(*core.edge.files().values())
    prove(core, reconcile, {"moved": 1})
    assert list(core.edge.files()) == [f"queued/{instance.sop_instance_uid}.dcm"]


def test_reconcile_ends_an_interrupted_move(core: Forwarding) -> None:
    """G6: a crash between the link in the new place and the unlink in the old one; one file remains."""
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


def test_reconcile_leaves_a_file_that_its_actor_moves_meanwhile(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delivery is settled: the row names `sent`. The actor moves the file after reconcile has looked."""
    instance = Instance()
    core.receive(instance)
    core.edge.run("UPDATE instances SET place = 'sent'")
    [path] = core.edge.files().values()
    age(path)
    look = orphans.is_needed

    def move_then(context: SweepContext, path: Path, owner: StoredInstance) -> bool:
        needed = look(context, path, owner)
        core.spool.move(Place.SENT, instance.study_instance_uid, path.name, was=Place.INCOMING)
        return needed

    monkeypatch.setattr(orphans, "is_needed", move_then)
    assert found(reconcile(core.sweeping())) == {}
    assert list(core.edge.files()) == [f"sent/{path.name}"]
    assert core.edge.orphans() == []


def test_reconcile_leaves_a_file_that_is_registered_meanwhile(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G1: the file had no row when reconcile looked for misplaced files, and has one when it acts.

    An outage leaves files without a row for hours. They are registered while reconcile looks at them.
    """
    instance = Instance()
    one = core.received(instance)
    age(one.path)
    look = sweeps.misplaced
    looks = 0

    def look_before_the_commit(session: Session, files: Sequence[tuple[str, ...]]) -> list[int]:
        nonlocal looks
        misplaced = look(session, files)
        if one.path.parts[-3:] in files:
            looks += 1
            assert misplaced == [0]
            core.registration().register_one(one)
        return misplaced

    monkeypatch.setattr(sweeps, "misplaced", look_before_the_commit)
    assert found(reconcile(core.sweeping())) == {}
    assert looks == 1
    assert core.edge.files() == {f"incoming/{one.path.name}": one.path}
    core.edge.check_ledger([instance])


def test_reconcile_reports_a_row_without_a_file(core: Forwarding) -> None:
    """G2: it is counted and logged at each run while a delivery is open."""
    core.receive(Instance())
    [path] = core.edge.files().values()
    path.unlink()
    for _ in range(2):
        assert found(reconcile(core.sweeping())) == {"files_missing": 1}
    assert core.edge.log(outcome="file_missing", level="error")


def test_a_move_never_takes_what_is_being_received_under_that_name(core: Forwarding) -> None:
    """G3: a second version of the UID is briefly in incoming/ while the first one is moved."""
    first = Instance()
    second = Instance(first.sop_instance_uid, first.study_instance_uid, payload=b"\x03\x03" * 512)
    core.receive(first)
    name = f"{first.sop_instance_uid}.dcm"
    assert core.spool.move(Place.QUEUED, first.study_instance_uid, name, was=Place.INCOMING)
    part = core.spool.begin()
    part.write(second.data_set())
    arriving = keep(part, second.study_instance_uid, [name])
    assert core.spool.move(Place.SENT, first.study_instance_uid, name, was=Place.QUEUED)
    assert core.edge.files()[f"sent/{name}"].read_bytes().endswith(first.data_set())
    assert arriving.read_bytes() == second.data_set()
    core.edge.files()[f"sent/{name}"].unlink()
    assert not core.spool.move(Place.FAILED, first.study_instance_uid, name, was=Place.QUEUED)
    assert arriving.exists()
    part.discard()


def delivered(core: Forwarding, instance: Instance) -> None:
    """Deliver the instance to the PACS and to a worker, and receive its result."""
    delivery = core.owed(instance)
    forward_to_pacs(core.context, delivery)
    forward_to_worker(core.context, core.edge.delivery(instance, "workers")["id"])
    worker = core.edge.delivery(instance, "workers")["destination"]
    result = result_of(instance)
    core.receive(result, worker=worker)
    forward_to_pacs(core.context, core.edge.delivery(result)["id"])


def grow_old(core: Forwarding) -> None:
    """Move all times thirty hours back."""
    core.edge.run("UPDATE instances SET received_at = received_at - interval '30 hours'")
    core.edge.run("UPDATE deliveries SET settled_at = settled_at - interval '30 hours'")
    core.edge.run("DELETE FROM dramatiq.queue")


def test_purge_removes_only_old_delivered_instances(core: Forwarding) -> None:
    """It never removes an instance with an open or dead delivery, however old, or a recent one."""
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
    """The retention begins at the move, which sets the file's change time."""
    folder = core.edge.configuration.edge.data_root / ORPHANED / "1.2.3"
    folder.mkdir()
    (folder / "1.2.3.4.dcm").write_bytes(b"x")
    assert found(purge(core.sweeping())) == {}
    assert core.edge.orphans() == ["1.2.3.4.dcm"]


def test_a_repeat_while_its_instance_is_purged_is_received_as_new(core: Forwarding) -> None:
    """G4: it waits for the purge, and has its own file."""
    instance = Instance()
    with pacs_of(core), workers_of(core):
        delivered(core, instance)
    grow_old(core)
    repeat: list[ReceptionVerdict] = []

    def send_again() -> None:
        repeat.append(core.receive(instance)[0].verdict)

    def purge_slowly() -> None:
        sweeping_ = core.sweeping()
        with core.edge.database.transaction() as session:
            rows, _ = sweeps.lock_purgeable(session, retention=sweeping_.retention, after="", limit=10)
            assert len(rows) == 2
            sender = threading.Thread(target=send_again)
            sender.start()
            wait_until(lambda: blocked(core), 10, "the repeat to wait")
            for row in rows:
                core.spool.remove(row.place, row.study_instance_uid, row.file_name)
            sweeps.delete_instances(session, [row.instance_id for row in rows])
        sender.join(30)

    purge_slowly()
    assert repeat == [ReceptionVerdict.STORED]
    core.edge.check_ledger([instance])
