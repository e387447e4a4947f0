"""The disk is full, broken or read-only: the sender gets a refusal, and no partial instance remains."""

import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeEdge
from support.edge_setup import TESTS, EdgeSetup, store
from support.forwarding import Forwarding, forwarding
from support.launcher import REPOSITORY
from support.peers import peer
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until

from gateway.domain.delivery import State
from gateway.errors import AssociationRejectedError
from gateway.spool.places import ORPHANED
from gateway.sweep.purge import FILES_PER_TRANSACTION, purge
from gateway.sweep.reconcile import reconcile

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G2")]
MEGABYTE = 1 << 20


def check_nothing_half_there(edge: EdgeSetup) -> None:
    """Check that every file belongs to a row, and that no partial file is left."""

    def look() -> bool:
        known = {row[0] for row in edge.rows("SELECT place::text || '/' || file_name FROM instances")}
        return set(edge.files(partial=True)) == known

    wait_until(look, 10, "every file to be a row's")


# ---- one operation fails ---------------------------------------------------------------------------


@pytest.fixture
def failing(make_edge: MakeEdge, tmp_path: Path) -> tuple[EdgeSetup, Path]:
    """Return an SCP whose disk fails as the file says, and that file."""
    order = tmp_path / "order"
    edge = make_edge({"edge": {"receivers": 1}, "sweep": {"orphan_grace_seconds": 0.001}})
    path = {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{TESTS}", "FAIL_FILE": str(order)}
    edge.serve("python", TESTS / "support" / "failing_serve.py", **path)
    return edge, order


STEPS = ("open:1", "write:1", "write:2", "fsync:1", "mkdir:1", "fsync:2", "link:1", "fsync:3")
"""In the order of a new study's instance: part, bytes, flush, folder, its flush, name, its flush."""


def test_a_failed_disk_operation_refuses_one_instance_only(failing: tuple[EdgeSetup, Path]) -> None:
    """It gets 0xA700, whatever the error; the association goes on, and the repeat is accepted."""
    edge, order = failing
    taken: list[Instance] = []
    with edge.association([Instance().context]) as association:
        for step, code in itertools.product(STEPS, ("ENOSPC", "EIO", "EDQUOT", "EROFS")):
            before, refused = Instance(), Instance(payload=b"\1\2" * 300_000)  # more than one write
            assert store(association, before)[0] == 0
            order.write_text(f"{step}:{code}", encoding="ascii")
            status, comment = store(association, refused)
            assert (status, order.exists()) == (0xA700, False), f"{step} {code}"
            full = code in {"ENOSPC", "EDQUOT"}
            assert comment == ("the disk is full" if full else "the edge cannot write to its disk")
            uid = refused.sop_instance_uid
            assert not edge.rows("SELECT 1 FROM instances WHERE sop_instance_uid = %(uid)s", uid=uid)
            assert store(association, refused)[0] == 0, f"the repeat after {step} {code}"
            taken += [before, refused]
    check_nothing_half_there(edge)
    edge.check_ledger(taken)


def test_a_failed_flush_is_not_repeated(failing: tuple[EdgeSetup, Path]) -> None:
    """After a collision of the rows, they are written again, but the file is not flushed again.

    A second fsync would succeed although the first one lost bytes.
    """
    edge, order = failing
    first, refused = study_of(2)
    assert edge.send(first) == [0]
    edge.run("CREATE SEQUENCE tries")
    edge.run(
        "CREATE FUNCTION collide_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('tries') = 1"
        " THEN RAISE EXCEPTION 'the other one goes first' USING ERRCODE = '40P01'; END IF; RETURN NEW; END $$"
    )
    edge.run(
        "CREATE TRIGGER collide_once BEFORE INSERT ON instances FOR EACH ROW EXECUTE FUNCTION collide_once()"
    )
    order.write_text("fsync:1:EIO", encoding="ascii")
    assert edge.send(refused) == [0xA700]
    assert not order.exists()
    assert edge.one("SELECT last_value FROM tries") == 1
    assert edge.send(refused) == [0]
    check_nothing_half_there(edge)
    edge.check_ledger([first, refused])


def test_a_disk_that_turns_read_only_is_used_again_when_it_is_writable(
    failing: tuple[EdgeSetup, Path],
) -> None:
    """The kernel makes it read-only after an error: every write fails until an operator repairs it."""
    edge, order = failing
    first, later = Instance(), study_of(3)
    assert edge.send(first) == [0]
    order.write_text("open,write,fsync,link,mkdir:*:EROFS", encoding="ascii")
    assert edge.send(*later) == [0xA700] * 3
    order.unlink()
    assert edge.send(*later) == [0] * 3
    check_nothing_half_there(edge)
    edge.check_ledger([first, *later])


def test_the_first_error_of_a_disk_that_turns_read_only_is_reported(failing: tuple[EdgeSetup, Path]) -> None:
    """The error of the cleanup does not replace it; the sweep removes the name that was left.

    Its file is complete, so it is registered as a repeat of the one that was sent again.
    """
    edge, order = failing
    with edge.association([Instance().context]) as association:
        first, second = study_of(2)
        assert store(association, first)[0] == 0
        order.write_text("fsync,unlink:*:EROFS", encoding="ascii")
        assert store(association, second) == (0xA700, "the edge cannot write to its disk")
        order.unlink()
        assert store(association, second)[0] == 0
    edge.scp.stop()

    def swept() -> bool:
        edge.heal()
        return len(edge.files()) == 2

    wait_until(swept, 5, "the name that could not be taken back to be swept")
    assert edge.orphans() == []
    edge.check_ledger([first, second])
    assert edge.one("SELECT count(*) FROM deliveries") == 4


# ---- a real file system that is small --------------------------------------------------------------

CAP_SYS_ADMIN = 21


def _may_mount() -> bool:
    """Tell whether the kernel allows this process to mount; root of a container usually may not."""
    [line] = re.findall(r"^CapEff:\s+(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return bool(int(line, 16) >> CAP_SYS_ADMIN & 1)


@pytest.fixture
def small_disk(edge_folder: Path) -> Iterator[Path]:
    """Yield a file system of 8 MiB at `edge.data_root`."""
    root = edge_folder / "data"
    root.mkdir(parents=True)
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0750", "tmpfs", root],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        reason = f"this root may not mount: {made.stderr.strip()}"
        assert "CI" not in os.environ or not _may_mount(), reason
        pytest.skip(reason)
    try:
        yield root
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)


def test_a_full_disk_refuses_until_there_is_space_again(small_disk: Path, make_edge: MakeEdge) -> None:
    """0xA700, and the same association goes on; every Success has its file, no refusal has one."""
    edge = make_edge({"edge": {"disk_reserve_mb": 0}})
    edge.serve()
    filler = small_disk / "filler"
    filler.write_bytes(bytes(4 * MEGABYTE))
    instances = study_of(8, payload=bytes(MEGABYTE))
    with edge.association([instances[0].context]) as association:
        statuses = [store(association, instance)[0] for instance in instances]
        assert statuses[0] == 0
        assert set(statuses) == {0, 0xA700}
        check_nothing_half_there(edge)
        filler.unlink()
        refused = [one for one, status in zip(instances, statuses, strict=True) if status]
        assert [store(association, one)[0] for one in refused[:3]] == [0] * 3
    check_nothing_half_there(edge)
    kept = [one for one, status in zip(instances, statuses, strict=True) if not status]
    edge.check_ledger([*kept, *refused[:3]])


def test_below_the_reserve_senders_are_rejected_and_forwarding_goes_on(
    small_disk: Path, make_edge: MakeEdge
) -> None:
    """New associations get 2/3/1, open ones 0xA700; the PACS gets its images.

    With space again all are admitted.
    """
    edge = make_edge({"edge": {"disk_reserve_mb": 4}})
    edge.serve()
    owed, late = Instance(), Instance()
    with edge.association([owed.context]) as association:
        assert store(association, owed)[0] == 0
        filler = small_disk / "filler"
        filler.write_bytes(bytes(5 * MEGABYTE))
        wait_until(lambda: store(association, Instance())[0] == 0xA700, 5, "the reserve to be seen")
        with pytest.raises(AssociationRejectedError) as rejected:
            edge.send(late)
        assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (2, 3, 1)
        with peer(edge.configuration.forwarder.orthanc.port) as pacs:
            edge.actors("pacs")
            pacs.wait_for(owed.sop_instance_uid)
            edge.wait_state(owed, "delivered")
        filler.unlink()
        wait_until(lambda: store(association, late)[0] == 0, 5, "the room to be seen")
    assert edge.send(Instance()) == [0]
    check_nothing_half_there(edge)


@pytest.mark.parametrize("reserve_mb", [0, 4], ids=["full", "at its reserve"])
def test_an_endless_data_set_does_not_fill_the_disk_for_others(
    small_disk: Path, make_edge: MakeEdge, reserve_mb: int
) -> None:
    """G7: its partial data is deleted immediately. Its sender is refused at the end; others are served."""
    edge = make_edge({"edge": {"disk_reserve_mb": reserve_mb, "receivers": 1}})
    edge.serve()
    endless, honest = Instance(), [Instance() for _ in range(3)]
    statuses: list[list[int]] = []

    def pieces() -> Iterator[bytes]:
        yield endless.data_set()
        for one in honest:
            for _ in range(16):
                yield bytes(MEGABYTE)
            wait_until(lambda: small_disk_is_free(small_disk), 10, "its part to be gone")
            statuses.append(edge.send(one))

    with edge.association([endless.context]) as association:
        status = association.store(endless.context, endless.sop_instance_uid, pieces())
        assert status == (0xA700, "the disk is full")
        assert store(association, endless)[0] == 0
    assert statuses == [[0]] * 3
    check_nothing_half_there(edge)
    edge.check_ledger([endless, *honest])


def small_disk_is_free(root: Path) -> bool:
    """Tell whether more than three quarters of it are free."""
    status = os.statvfs(root)
    return status.f_bavail > 0.75 * status.f_blocks


def test_deliveries_go_on_while_the_disk_is_read_only(small_disk: Path, make_edge: MakeEdge) -> None:
    """G2: forwarding only reads; the file is moved to its place when the disk is writable again."""
    edge = make_edge({"edge": {"disk_reserve_mb": 0}, "sweep": {"orphan_grace_seconds": 0.001}})
    edge.serve()
    owed = Instance()
    assert edge.send(owed) == [0]
    edge.scp.stop()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with peer(edge.configuration.forwarder.orthanc.port) as pacs:
        edge.actors("pacs")
        pacs.wait_for(owed.sop_instance_uid)
        edge.wait_state(owed, "delivered")
        assert pacs.count(owed.sop_instance_uid) == 1
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    edge.heal()
    check_nothing_half_there(edge)
    edge.check_ledger([owed])


# ---- the sweep -------------------------------------------------------------------------------------


@pytest.fixture
def hasty(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core without its processes; its sweep has no grace periods."""
    with forwarding(make_edge({"sweep": {"orphan_grace_seconds": 0.001}})) as core:
        yield core


def test_reconcile_goes_on_after_a_file_that_it_cannot_move(hasty: Forwarding) -> None:
    """The file is counted and logged; all others are moved."""
    root = hasty.edge.configuration.edge.data_root
    for study in ("1.2.3", "1.2.4", "1.2.5"):
        (root / "incoming" / study).mkdir()
        (root / "incoming" / study / f"{study}.1.dcm").write_bytes(b"x")
    for study in ("1.2.3", "1.2.4"):
        (root / ORPHANED / study).write_bytes(b"in the way of the folder")
    wait_until(lambda: reconcile(hasty.sweeping())["orphaned"] == 1, 5, "the third to be moved")
    assert reconcile(hasty.sweeping())["files_refused"] == 2
    assert hasty.edge.orphans() == ["1.2.5.1.dcm"]
    assert hasty.edge.log(outcome="file_refused", level="error")


def test_purge_goes_on_after_a_file_that_it_cannot_delete(hasty: Forwarding) -> None:
    """The row of such a file stays; all others are purged."""
    instances = [Instance() for _ in range(2 * FILES_PER_TRANSACTION + 10)]
    for instance in instances:
        hasty.receive(instance)
    edge = hasty.edge
    edge.run("UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), lease_until = now()")
    edge.run(
        "UPDATE deliveries SET state = 'delivered', claim_id = NULL, lease_until = NULL,"
        " next_attempt_at = NULL, settled_at = now() - interval '25 h'"
    )
    edge.run("UPDATE instances SET received_at = now() - interval '25 h'")
    refused = {instance.sop_instance_uid for instance in instances[: FILES_PER_TRANSACTION + 1]}
    for path in edge.files().values():
        if path.stem in refused:
            path.unlink()
            path.mkdir()  # a folder, which unlink cannot remove
    counts = purge(hasty.sweeping())
    assert counts["purged"] == FILES_PER_TRANSACTION + 9
    assert counts["files_refused"] == len(refused)
    assert {row[0] for row in edge.rows("SELECT sop_instance_uid FROM instances")} == refused
    assert edge.files() == {}


# ---- retention -------------------------------------------------------------------------------------

STATES = (*State, None)


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core without its processes."""
    with forwarding(make_edge()) as core:
        yield core


def test_retention_never_deletes_an_instance_with_an_open_delivery(core: Forwarding) -> None:
    """Try every pair of states, young and old, with and without an open result."""
    edge = core.edge
    purgeable: set[str] = set()
    everything: set[str] = set()
    edge.run("ALTER TABLE deliveries DISABLE TRIGGER deliveries_transition")
    for pacs, workers, old, owes in itertools.product(STATES, STATES, (True, False), (True, False)):
        instance = Instance()
        core.receive(instance)
        uid = instance.sop_instance_uid
        everything.add(uid)
        if owes:
            edge.run(
                "INSERT INTO expected_results (delivery_id, instance_id, worker, claim_id, due_at)"
                " SELECT d.id, d.instance_id, 'APP01', gen_random_uuid(), now() FROM deliveries d"
                " JOIN instances i ON i.id = d.instance_id WHERE i.sop_instance_uid = %(uid)s LIMIT 1",
                uid=uid,
            )
        for route, state in (("pacs", pacs), ("workers", workers)):
            edge.run(
                "UPDATE deliveries d SET state = coalesce(%(state)s::delivery_state, 'delivered'),"
                " claim_id = CASE WHEN %(state)s = 'in_flight' THEN gen_random_uuid() END,"
                " lease_until = now(), next_attempt_at = now(),"
                " settled_at = now() - CASE WHEN %(old)s THEN interval '25 h' ELSE interval '23 h' END"
                " FROM instances i WHERE i.id = d.instance_id AND i.sop_instance_uid = %(uid)s"
                " AND d.route = %(route)s::route",
                state=None if state is None else state.value,
                route=route,
                uid=uid,
                old=old,
            )
            if state is None and not owes:
                edge.run(
                    "DELETE FROM deliveries d USING instances i WHERE i.id = d.instance_id"
                    " AND i.sop_instance_uid = %(uid)s AND d.route = %(route)s::route",
                    uid=uid,
                    route=route,
                )
        settled = {State.DELIVERED, State.CANCELLED, None}
        if {pacs, workers} <= settled and not owes and (old or (pacs is None and workers is None)):
            purgeable.add(uid)
    edge.run("UPDATE instances SET received_at = now() - interval '25 h'")
    for _ in range(3):
        purge(core.sweeping())
    left = {row[0] for row in edge.rows("SELECT sop_instance_uid FROM instances")}
    assert everything - left == purgeable
    names = {path.name.removesuffix(".dcm") for path in edge.files().values()}
    assert names == left, "a file goes with its row, and only with it"
