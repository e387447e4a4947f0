"""The supervisor restarts programs that end; however it ends itself, no process is left."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.launcher import Processes
from support.waiting import wait_until

from gateway.errors import LabError
from gateway.lab import stray_processes
from gateway.lab.folder_lock import seize_folder
from gateway.lab.program import Program
from gateway.lab.supervisor import Supervisor

FAMILY = """
import os, signal, sys, time
child = os.fork()
if child == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    print("ready for action", flush=True)
    if len(sys.argv) > 1:
        open(sys.argv[1], "a").write(f"{os.getpid()} {child}\\n")
time.sleep(600)
"""
"""A leader and a child that ignores SIGTERM, as a forking server may have one."""


def family(name: str) -> Program:
    """Return a program of two processes."""
    return Program(name, (sys.executable, "-c", FAMILY), ready_line="ready for action")


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """Yield two layers with a family each; not started."""
    supervisor = Supervisor(tmp_path / "lab", [[family("below")], [family("above")]])
    try:
        yield supervisor
    finally:
        supervisor.stop()


def test_a_killed_program_is_started_again(supervisor: Supervisor) -> None:
    """G6: after kill -9 of a leader its orphaned child is ended, and both run again."""
    supervisor.start()
    before = supervisor.pids("above")
    assert len(before) == 2
    supervisor.kill("above")
    wait_until(lambda: supervisor.restarts("above") == 1 and supervisor.is_ready("above"), 30, "the restart")
    assert not any(map(stray_processes.is_alive, before))
    assert supervisor.restarts("below") == 0


def test_stop_leaves_no_process(supervisor: Supervisor) -> None:
    """Leaders, children that ignore SIGTERM, and stopped ones all end."""
    supervisor.start()
    supervisor.pause("below")
    pids = supervisor.pids("below") + supervisor.pids("above")
    assert len(pids) == 4
    supervisor.stop()
    assert not any(map(stray_processes.is_alive, pids))


def test_a_program_that_was_taken_down_stays_down(supervisor: Supervisor) -> None:
    """`take_down` is not a crash: nothing starts before `bring_up`."""
    supervisor.start()
    supervisor.take_down("above")
    supervisor.kill("below")
    wait_until(lambda: supervisor.restarts("below") == 1, 30, "the restart of the other")
    assert supervisor.pid("above") is None
    supervisor.bring_up("above")
    supervisor.wait_ready(10)
    assert supervisor.pid("above") is not None


def test_a_paused_program_is_alive_and_silent_until_resumed(supervisor: Supervisor) -> None:
    """SIGSTOP and SIGCONT reach the children too; a stopped process does not count as dead."""
    supervisor.start()

    def states() -> set[str]:
        return {
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[2]
            for pid in supervisor.pids("above")
        }

    supervisor.pause("above")
    wait_until(lambda: states() == {"T"}, 5, "both to stand still")
    supervisor.resume("above")
    wait_until(lambda: states() == {"S"}, 5, "both to go on")
    assert supervisor.restarts("above") == 0


def test_a_program_that_never_becomes_ready_is_a_clear_error(tmp_path: Path) -> None:
    """The error has its name and last output, and nothing is left running."""
    broken = Program(
        "broken", (sys.executable, "-c", "raise SystemExit('no such thing')"), ready_line="never printed"
    )
    supervisor = Supervisor(tmp_path / "lab", [[family("below")], [broken]])
    with pytest.raises(LabError, match=r"(?s)broken does not become ready.*no such thing"):
        supervisor.start()
    assert supervisor.pid("below") is None


def test_a_folder_has_one_lab_at_a_time(supervisor: Supervisor, tmp_path: Path) -> None:
    """A second lab in the same folder is refused, and the first one goes on."""
    supervisor.start()
    with pytest.raises(LabError, match="already"):
        Supervisor(tmp_path / "lab", []).start()
    assert supervisor.is_ready("above")
    assert supervisor.is_ready("below")


SCRIPT = """
import sys, time
from pathlib import Path
from gateway.lab.program import Program
from gateway.lab.supervisor import Supervisor
folder, pids, family = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
command = (sys.executable, "-c", family, pids)
programs = [Program(name, command, ready_line="ready for action") for name in "ab"]
Supervisor(folder, [programs]).start()
print("lab is up", flush=True)
time.sleep(600)
"""


def _family_pids(path: Path) -> list[int]:
    return [int(word) for word in path.read_text(encoding="ascii").split()]


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path, processes: Processes) -> None:
    """The watchdog ends every child and grandchild within seconds of a kill -9 of the supervisor."""
    path = tmp_path / "pids"
    lab = processes.start("python", "-c", SCRIPT, tmp_path / "lab", path, FAMILY)
    lab.wait_for_line("lab is up")
    pids = _family_pids(path)
    assert len(pids) == 4
    os.kill(lab.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(stray_processes.is_alive, pids)), 30, "the children to end")


def test_the_next_start_ends_what_the_watchdog_left(tmp_path: Path, processes: Processes) -> None:
    """Supervisor and watchdog are killed together: the next start finds the processes by their mark."""
    path = tmp_path / "pids"
    lab = processes.start("python", "-c", SCRIPT, tmp_path / "lab", path, FAMILY)
    lab.wait_for_line("lab is up")
    pids = _family_pids(path)
    [warden] = [
        pid
        for pid in stray_processes.descendants(lab.pid)
        if b"gateway.lab.watchdog" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    stray_processes.send([warden, lab.pid], signal.SIGSTOP)
    stray_processes.send([warden, lab.pid], signal.SIGKILL)
    wait_until(lambda: not stray_processes.is_alive(lab.pid), 5, "the supervisor to end")
    assert all(map(stray_processes.is_alive, pids))
    again = Supervisor(tmp_path / "lab", [])
    again.start()
    again.stop()
    assert not any(map(stray_processes.is_alive, pids))


def test_restarts_are_spaced_out(tmp_path: Path) -> None:
    """A program that ends repeatedly does not use up a core: its restarts come later each time."""
    flapping = Program("flapping", ("sleep", "0.3"))
    supervisor = Supervisor(tmp_path / "lab", [[flapping]])
    begin = time.monotonic()
    supervisor.start()
    try:
        wait_until(lambda: supervisor.restarts("flapping") >= 4, 10, "four restarts")
        assert time.monotonic() - begin > 0.1 + 0.2 + 0.4
    finally:
        supervisor.stop()


def test_a_supervisor_says_that_its_folder_is_gone(tmp_path: Path) -> None:
    """Somebody deleted it, and perhaps started another lab in its place."""
    folder = tmp_path / "lab"
    supervisor = Supervisor(folder, [])
    supervisor.start()
    try:
        assert supervisor.has_folder()
        shutil.rmtree(folder)
        assert not supervisor.has_folder()
        with seize_folder(folder):
            assert not supervisor.has_folder()
    finally:
        supervisor.stop()
