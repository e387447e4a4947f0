"""Every process of the edge writes a row with its heartbeat; a frozen one is told from one that is gone."""

import os
import signal
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup, children
from support.waiting import wait_until

from gateway import config
from gateway.database.tables import processes
from gateway.database.tables.processes import SILENT_SECONDS, Beat, ProcessKind, ProcessRow
from gateway.processes.own_spool import os_user, problem_of
from gateway.spool.spool import Spool


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge with one receiver."""
    return make_edge({"edge": {"receivers": 1}})


def rows(edge: EdgeSetup) -> list[ProcessRow]:
    """Return every row of the table."""
    with edge.database.statement() as session:
        return processes.processes(session)


def row_of(edge: EdgeSetup, pid: int) -> ProcessRow:
    """Wait for the row of a process; return it."""
    return first_row(edge, lambda row: row.pid == pid, f"the row of process {pid}")


def row_of_child(edge: EdgeSetup, parent: int) -> ProcessRow:
    """Wait for the row of a child of a process; return it."""
    return first_row(edge, lambda row: row.pid in children(parent), f"the row of a child of process {parent}")


def first_row(edge: EdgeSetup, matches: Callable[[ProcessRow], bool], what: str) -> ProcessRow:
    """Wait for a row that matches; return it."""
    found = wait_until(lambda: next(filter(matches, rows(edge)), None), 15, what)
    assert found is not None
    return found


def make_old(edge: EdgeSetup, pid: int, *, seconds: float) -> None:
    """Set the last heartbeat of a process back."""
    edge.run(
        "UPDATE processes SET beat_at = beat_at - %(age)s WHERE pid = %(pid)s",
        age=timedelta(seconds=seconds),
        pid=pid,
    )


def test_each_process_says_what_it_is(edge: EdgeSetup) -> None:
    """Parent, receiver and actors: kind, user, spool, configuration, clock, and the id of the consumer."""
    scp = edge.serve()
    [actors] = edge.actors("pacs")
    receiver = row_of(edge, children(scp.pid)[0])
    parent = row_of(edge, scp.pid)
    actor = row_of_child(edge, actors.pid)
    name = edge.one("SELECT name::text FROM spool")
    digest = config.load(edge.configuration.source).digest
    assert [row.kind for row in (parent, receiver, actor)] == [
        ProcessKind.SERVE,
        ProcessKind.RECEIVER,
        ProcessKind.ACTORS,
    ]
    assert receiver.serves == parent.serves == f"MINI_EDGE:{edge.configuration.edge.port}"
    assert actor.serves == "pacs"
    assert actor.consumer_id == edge.one("SELECT id FROM dramatiq.consumers")
    for row in (receiver, actor):
        assert (row.spool_name, row.spool_epoch, row.spool_problem) == (name, 1, None)
        assert row.clock_offset_ms is not None
        assert abs(row.clock_offset_ms) < 2000
    for row in (parent, receiver, actor):
        assert row.configuration_digest == digest
        assert row.os_user == os_user()
        assert row.beats
        assert row.connected


def test_a_row_goes_with_its_process(edge: EdgeSetup) -> None:
    """SIGTERM deletes the rows of parent, receiver and actors at once."""
    scp = edge.serve()
    [actors] = edge.actors("sweep")
    row_of(edge, scp.pid)
    for process in (scp, actors):
        process.stop()
    assert rows(edge) == []


def test_a_frozen_process_is_told_from_one_that_is_gone(edge: EdgeSetup) -> None:
    """A stopped process keeps its connection; a killed one does not, and another process deletes its row."""
    scp = edge.serve()
    [receiver] = children(scp.pid)
    row_of(edge, receiver)
    os.kill(receiver, signal.SIGSTOP)
    try:
        make_old(edge, receiver, seconds=SILENT_SECONDS + 100)
        frozen = row_of(edge, receiver)
        assert (frozen.beats, frozen.connected, frozen.is_frozen) == (False, True, True)
        with edge.database.statement() as session:
            assert processes.forget_dead(session) == 0
    finally:
        os.kill(receiver, signal.SIGKILL)
    wait_until(lambda: not row_of(edge, receiver).connected, 10, "PostgreSQL to notice the death")
    gone = row_of(edge, receiver)
    assert (gone.beats, gone.is_frozen) == (False, False)
    with edge.database.statement() as session:
        assert processes.forget_dead(session) == 1
    assert receiver not in {row.pid for row in rows(edge)}


def test_a_backend_with_the_number_of_a_dead_one_is_not_its_connection(edge: EdgeSetup) -> None:
    """PostgreSQL numbers its backends anew after a restart of its container; a dead process is not frozen."""
    scp = edge.serve()
    [receiver] = children(scp.pid)
    row_of(edge, receiver)
    os.kill(receiver, signal.SIGSTOP)
    try:
        edge.run(
            "UPDATE processes SET server_started_at = server_started_at - interval '1 hour'"
            " WHERE pid = %(pid)s",
            pid=receiver,
        )
        make_old(edge, receiver, seconds=SILENT_SECONDS + 100)
        assert not row_of(edge, receiver).connected
        assert not row_of(edge, receiver).is_frozen
        with edge.database.statement() as session:
            assert processes.forget_dead(session) == 1
    finally:
        os.kill(receiver, signal.SIGKILL)


def test_a_frozen_parent_is_silent_while_its_receiver_beats(edge: EdgeSetup) -> None:
    """The receiver writes the row of the parent, with the time at which the parent was last alive."""
    scp = edge.serve()
    [receiver] = children(scp.pid)
    row_of(edge, scp.pid)
    os.kill(scp.pid, signal.SIGSTOP)
    try:
        make_old(edge, scp.pid, seconds=SILENT_SECONDS + 100)
        seen = row_of(edge, receiver).beat_at
        wait_until(lambda: row_of(edge, receiver).beat_at > seen, 15, "the receiver to beat")
        parent = row_of(edge, scp.pid)
        # its pulse is noted as the time before it was stopped
        assert parent.beat_at < row_of(edge, receiver).beat_at
    finally:
        os.kill(scp.pid, signal.SIGCONT)
    wait_until(lambda: row_of(edge, scp.pid).silent_seconds < 5, 20, "the parent to beat")


def test_a_process_comes_back_after_its_row_was_lost(edge: EdgeSetup) -> None:
    """The heartbeat writes the whole row each time."""
    [actors] = edge.actors("sweep")
    wait_until(lambda: rows(edge), 15, "the first beat")
    before = rows(edge)
    edge.run("DELETE FROM processes")
    wait_until(lambda: rows(edge), 15, "the next beat")
    [after] = rows(edge)
    assert after.id == before[0].id
    assert abs(after.started_at - before[0].started_at) < timedelta(seconds=5)
    assert actors.popen.poll() is None


def test_the_scheduler_has_a_row_once_it_has_enqueued(edge: EdgeSetup) -> None:
    """It uses no configuration and no spool."""
    scheduler = edge.start("periodiq", "actors", name="scheduler")
    wait_until(lambda: rows(edge), 90, "the first scheduled message")
    [row] = rows(edge)
    assert (row.kind, row.pid, row.configuration_digest) == (ProcessKind.SCHEDULER, scheduler.pid, None)


def test_a_beat_of_the_parent_never_goes_back(edge: EdgeSetup) -> None:
    """Several receivers write the row of one parent, and the newest time counts."""
    row = Beat(
        "6f0f7a4e-6f3e-4a53-9c0b-2f8a3f5b7d10", ProcessKind.SERVE, "A:1", "h", 1, "u", "v", timedelta()
    )
    late = Beat(row.id, row.kind, "A:1", "h", 1, "u", "v", timedelta(), beat_age=timedelta(seconds=30))
    with edge.database.statement() as session:
        processes.beat(session, row)
        processes.beat(session, late)
        [seen] = processes.processes(session)
    assert seen.silent_seconds < SILENT_SECONDS


def test_a_spool_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A missing folder, and one without write permission; a sound one has no problem and keeps no file."""
    root = tmp_path / "data"
    assert problem_of(root) == f"{root}: No such file or directory"
    Spool(root).prepare()
    assert problem_of(root) is None
    assert sorted(path.name for path in root.iterdir()) == sorted(
        ["incoming", "queued", "sent", "failed", "orphaned", "partial"]
    )
    (root / "sent").rmdir()
    assert problem_of(root) == f"{root / 'sent'}: No such file or directory"
    (root / "sent").write_bytes(b"")
    problem = problem_of(root)
    assert problem is None or problem.startswith(str(root / "sent"))
    if os.geteuid() != 0:
        (root / "sent").unlink()
        (root / "sent").mkdir(mode=stat.S_IRUSR)
        assert problem_of(root) == f"{root / 'sent'} is not writable for {os_user()}"
