"""A lab uses its own ports, and counts as up only if its own processes listen there."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import config
from gateway.errors import LabError
from gateway.lab import layout
from gateway.lab.claims import Claims
from gateway.lab.folder_lock import seize_folder
from gateway.lab.lab import Lab
from gateway.lab.listening import listens
from gateway.lab.program import Program
from gateway.lab.supervisor import Supervisor

LISTENER = """
import os, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if os.fork():
    os.wait()
time.sleep(600)
"""
"""A parent and a child that share a listening socket, as the Storage SCP and its receivers do."""


@pytest.fixture
def claims() -> Iterator[Claims]:
    """Yield the claims of a lab."""
    claims = Claims()
    yield claims
    claims.release()


@pytest.fixture
def taken() -> Iterator[int]:
    """Yield a port on which this process listens."""
    with socket.create_server(("127.0.0.1", layout.free_ports(1)[0])) as listener:
        yield int(listener.getsockname()[1])


def test_a_port_belongs_to_one_lab_until_it_is_released(claims: Claims) -> None:
    """A second lab gets another port, also before a process listens on the first."""
    others = Claims()
    try:
        [port] = layout.free_ports(1, take=claims.take)
        assert claims.take(port)
        assert not others.take(port)
        assert layout.free_ports(1, [port], others.take) != [port]
        claims.release()
        assert others.take(port)
    finally:
        others.release()


def test_a_port_of_another_program_is_not_taken(claims: Claims, taken: int) -> None:
    """The ports that labs reserve do not include those of other programs."""
    assert not claims.take(taken)


def test_a_program_is_ready_only_when_itself_listens(tmp_path: Path, taken: int) -> None:
    """Another process that accepts connections on the port does not make it ready."""
    idle = Program("idle", (sys.executable, "-c", "import time; time.sleep(600)"), ports=(taken,))
    supervisor = Supervisor(tmp_path / "lab", [[idle]])
    (tmp_path / "lab" / "logs").mkdir(parents=True)
    try:
        supervisor.bring_up("idle")
        with pytest.raises(LabError, match="idle does not become ready"):
            supervisor.wait_ready(1.0)
        assert layout.is_listening(taken)
    finally:
        supervisor.stop()


def test_a_program_is_ready_when_a_child_of_it_listens(tmp_path: Path) -> None:
    """The Storage SCP forks: a socket of any of its children counts."""
    [port] = layout.free_ports(1)
    forking = Program("forking", (sys.executable, "-c", LISTENER, str(port)), ports=(port,))
    supervisor = Supervisor(tmp_path / "lab", [[forking]])
    supervisor.start()
    try:
        assert listens(supervisor.pids("forking"), port)
        assert not listens([supervisor.pid("forking") or 0], port + 1)
    finally:
        supervisor.stop()


def test_ports_that_are_taken_at_a_later_start_are_replaced_in_the_configuration(
    tmp_path: Path, taken: int
) -> None:
    """Comments and other values of config.yaml stay; the new ports are written there and printed."""
    path = layout.write(tmp_path, layout.configuration(layout.choose_ports(well_known=False)))
    before = config.load(path)
    text = path.read_text(encoding="utf-8")
    for port in (before.edge.port, before.forwarder.workers[1].port):
        text = text.replace(f"port: {port}", f"port:   {taken}  # mine")
    path.write_text(f"# my lab\n{text}", encoding="utf-8")
    lab = Lab(tmp_path)
    try:
        lab._replace_taken_ports()
        after = config.load(path)
        assert taken not in {after.edge.port, *(worker.port for worker in after.forwarder.workers)}
        assert lab.configuration == after
        assert after.forwarder.orthanc == before.forwarder.orthanc
        assert after.forwarder.workers[0] == before.forwarder.workers[0]
        written = path.read_text(encoding="utf-8")
        assert written.startswith("# my lab\n")
        assert written.count("# mine") == 2
        assert [notice.split()[0] for notice in lab.notices] == ["edge.port", "forwarder.workers.1.port"]
    finally:
        lab.stop()


def test_a_default_port_that_is_taken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If config.yaml has no port to replace, the user is asked to set one."""
    content = layout.configuration(layout.choose_ports(well_known=False))
    del content["edge"]["port"]
    layout.write(tmp_path, content)
    lab = Lab(tmp_path)
    try:
        default = lab.configuration.edge.port
        take = lab._claims.take
        monkeypatch.setattr(lab._claims, "take", lambda port: port != default and take(port))
        with pytest.raises(LabError, match=r"edge\.port: the default is taken"):
            lab._replace_taken_ports()
    finally:
        lab.stop()


def test_a_lab_that_runs_is_not_removed(tmp_path: Path) -> None:
    """`--fresh` in the folder of a running lab is refused, and its files stay."""
    with seize_folder(tmp_path / "lab"):
        (tmp_path / "lab" / "data").mkdir()
        with pytest.raises(LabError, match=r"a lab runs in .* already"):
            Lab(tmp_path / "lab").remove()
        assert (tmp_path / "lab" / "data").exists()
