"""The SCP is killed at each step of a reception: acknowledged instances are kept, others repeated."""

import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import MakeEdge
from support.edge_setup import TESTS, EdgeSetup, store
from support.launcher import REPOSITORY
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until

from gateway.domain.instance import file_names
from gateway.errors import PeerError
from gateway.receive.c_store import HELD_BYTES
from gateway.spool.partial import PARTIAL

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G6")]

STEPS = [
    # Each instance has a new study. Its folder is flushed first. Then the file is written with its
    # envelope, which a large file gets last. It gets its final name, and file and name are flushed. The rows
    # are written behind the answer, by a statement that is a transaction.
    "writev:2:before",
    "writev:2:after",
    "pwrite:2:before",
    "pwrite:2:after",
    "fsync:4:before",
    "fsync:4:after",
    "link:2:before",
    "link:2:after",
    "fsync:5:before",
    "fsync:5:after",
    "fsync:6:after",
    "receive:1:before",
    "receive:1:after",
]


def send_until_it_dies(edge: EdgeSetup, instances: list[Instance]) -> list[Instance]:
    """Send until the SCP dies; return the instances that were answered Success."""
    acknowledged: list[Instance] = []
    with suppress(PeerError), edge.association([instances[0].context]) as association:
        for instance in instances:
            if store(association, instance)[0] != 0:
                break
            acknowledged.append(instance)
    return acknowledged


def check_no_stray_file(edge: EdgeSetup) -> None:
    """Check that every file outside orphaned/ belongs to a row, and that no partial file is left."""
    known = {row[0] for row in edge.rows("SELECT place::text || '/' || file_name FROM instances")}
    found = {name for name in edge.files(partial=True) if not name.startswith("orphaned/")}
    assert found == known


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_loses_nothing_that_was_acknowledged(make_edge: MakeEdge, step: str) -> None:
    """G1, G6: the next SCP registers what was acknowledged, without a repeat; the sweep cleans up."""
    edge = make_edge({"edge": {"receivers": 1}, "sweep": {"orphan_grace_seconds": 0.001}})
    payload = bytes(2 * HELD_BYTES if step.startswith("pwrite") else 16)
    instances = [Instance(payload=payload) for _ in range(4)]
    path = {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{TESTS}"}
    crashing = edge.serve("python", TESTS / "support" / "crashing_serve.py", CRASH_AT=step, **path)
    acknowledged = send_until_it_dies(edge, instances)
    assert crashing.wait() == -signal.SIGKILL
    edge.serve()
    edge.check_ledger(acknowledged)
    assert edge.send(*instances) == [0] * 4
    edge.check_ledger(instances)
    assert edge.one("SELECT count(*) FROM deliveries") == 8
    edge.scp.stop()
    edge.heal()
    check_no_stray_file(edge)
    edge.check_ledger(instances)


def test_a_torn_file_under_a_final_name_is_never_used(make_edge: MakeEdge) -> None:
    """G1, G3: a power cut before the flush may leave a torn file under both names.

    The instance is kept under another name.
    """
    edge = make_edge({"sweep": {"orphan_grace_seconds": 0.001}})
    edge.serve()
    instance = Instance(payload=b"\x01\x02" * 4096)
    digest = hashlib.sha256(instance.data_set()).hexdigest()
    folder = edge.configuration.edge.data_root / "incoming" / instance.study_instance_uid
    folder.mkdir(parents=True)
    for name in file_names(instance.sop_instance_uid, digest):
        (folder / name).write_bytes(b"\0" * 512)
    assert edge.send(instance) == [0]
    edge.check_ledger([instance])
    assert edge.send(instance) == [0]
    edge.scp.stop()
    edge.heal()
    check_no_stray_file(edge)
    edge.check_ledger([instance])
    assert len(edge.orphans()) == 2


def test_a_kill_in_the_middle_of_a_data_set_leaves_a_part_that_the_sweep_removes(make_edge: MakeEdge) -> None:
    """G6: after its restart the SCP listens at once, and accepts the instance."""
    edge = make_edge()
    scp = edge.serve()
    instance = Instance(payload=b"\0" * 3_000_000)
    data = instance.data_set()

    def until_it_is_dead() -> Iterator[bytes]:
        yield data[:2_000_000]
        wait_until(lambda: edge.files(partial=True), 5, "the part")
        scp.kill()
        yield data[2_000_000:]

    with pytest.raises(PeerError), edge.association([instance.context]) as association:
        association.store(instance.context, instance.sop_instance_uid, until_it_is_dead())
    edge.serve()
    assert edge.send(instance) == [0]
    edge.heal()
    check_no_stray_file(edge)
    assert edge.orphans() == []


def test_after_a_kill_of_the_parent_the_port_is_free_for_its_successor(make_edge: MakeEdge) -> None:
    """G6: the receivers notice the kill, finish the instance in flight, and close the port at once."""
    edge = make_edge()
    scp = edge.serve()
    instance = Instance(payload=b"\0" * 3_000_000)
    data = instance.data_set()
    go_on = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield data[:2_000_000]
        assert go_on.wait(30)
        yield data[2_000_000:]

    statuses: list[int] = []

    def send() -> None:
        with edge.association([instance.context]) as association:
            statuses.append(association.store(instance.context, instance.sop_instance_uid, slowly())[0])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        wait_until(lambda: edge.files(partial=True), 10, "the part")
        os.kill(scp.pid, signal.SIGKILL)
        other = Instance()
        wait_until(lambda: _started(edge), 10, "the successor to listen")
        assert edge.send(other) == [0]
    finally:
        go_on.set()
        sender.join(30)
    assert statuses == [0]
    edge.check_ledger([instance, other])
    wait_until(lambda: _receivers(edge.configuration.edge.data_root) <= 2, 10, "the old receivers to end")


def _started(edge: EdgeSetup) -> bool:
    try:
        edge.serve()
    except AssertionError:
        return False  # the port is still in use: the SCP refuses to start, and its supervisor starts it again
    return True


def _receivers(root: Path) -> int:
    return len(list((root / PARTIAL).iterdir()))


def test_sixteen_senders_lose_nothing_while_receivers_are_killed(make_edge: MakeEdge) -> None:
    """G1: each receiver is killed in turn under load; every acknowledged instance is kept once."""
    edge = make_edge()
    scp = edge.serve()
    acknowledged: list[Instance] = []
    finished = threading.Event()

    def send() -> None:
        while not finished.is_set():
            acknowledged.extend(send_until_it_dies(edge, study_of(10, payload=b"\x07\x08" * 4096)))

    senders = [threading.Thread(target=send) for _ in range(8)]
    for sender in senders:
        sender.start()
    try:
        for number in range(3):
            wait_until(lambda n=number: len(acknowledged) > 30 * (n + 1), 30, "some to be acknowledged")  # type: ignore[misc]
            children = Path(f"/proc/{scp.pid}/task/{scp.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGKILL)
            wait_until(lambda n=number: len(edge.log(outcome="receiver_died")) > n, 10, "its successor")  # type: ignore[misc]
    finally:
        finished.set()
        for sender in senders:
            sender.join(60)
    edge.check_ledger(acknowledged)
    assert edge.one("SELECT count(*) FROM deliveries") == 2 * edge.one("SELECT count(*) FROM instances")
