"""The whole stack as processes: whichever is killed, acknowledged instances arrive."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from support.launcher import Processes
from support.waiting import wait_until

from gateway import config
from gateway.database.pool import Database
from gateway.database.tables.timeline import of_studies
from gateway.dicom.association import PeerAddress
from gateway.errors import DatabaseError
from gateway.lab import layout, stray_processes
from gateway.lab.lab import Lab
from gateway.lab.listening import listens
from gateway.lab.supervisor import Supervisor
from gateway.sender.generate import Study, generate, write
from gateway.sender.send import SendOptions, send

SAME_PORTS = (14_101, 14_102, 14_103, (14_104, 14_105, 14_106, 14_107, 14_108))
"""Below those that other tests choose from; the lab replaces what is taken."""

ARRIVE_SECONDS = 90
"""Must exceed worker_timeout_seconds twice: the result that a killed worker owed is asked of another."""


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Yield a lab in a folder that PostgreSQL's user can reach, started."""
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-tests-"))
    folder.chmod(0o711)
    the_lab = Lab(folder / "lab")
    try:
        the_lab.start()
        yield the_lab
    finally:
        the_lab.remove()
        shutil.rmtree(folder)


def send_study(lab: Lab, folder: Path, instances: int) -> dict[str, str]:
    """Send a generated study; return SOP and Study Instance UID of each instance answered Success."""
    edge = lab.configuration.edge
    study = Study(instances, datetime.now(UTC), "MR")
    outgoing = [write(instance, folder) for instance in generate(study)]
    peer = PeerAddress("127.0.0.1", edge.port, edge.ae_title, 30, 30)
    return {
        sent.instance.sop_instance_uid: sent.instance.study_instance_uid
        for sent in send(outgoing, peer, SendOptions("ORTHANC"))
        if sent.accepted
    }


def arrived(lab: Lab, database: Database, acknowledged: dict[str, str]) -> bool:
    """Tell whether the PACS holds each of them and a result for each."""
    try:
        with database.transaction() as session:
            found = of_studies(session, acknowledged.values())
    except DatabaseError:
        return False  # PostgreSQL is the one that is being restarted
    complete = {one.sop_instance_uid for one in found if one.missing() is None}
    results = {uid for one in found for uid in one.result_sop_instance_uids}
    return acknowledged.keys() <= complete and acknowledged.keys() | results <= lab.pacs.holds()


def is_back(supervisor: Supervisor, name: str) -> bool:
    """Tell whether it was restarted and serves again."""
    return supervisor.restarts(name) >= 1 and supervisor.is_ready(name)


@pytest.mark.timeout(240)
def test_acknowledged_instances_arrive_whichever_process_is_killed(lab: Lab, tmp_path: Path) -> None:
    """G6: kill -9 of each process of the lab in turn, while instances are in flight."""
    supervisor = lab.supervisor
    assert isinstance(supervisor, Supervisor)
    acknowledged: dict[str, str] = {}
    database = Database(lab.postgres.dsn(), application_name="test", size=1)
    try:
        for name in supervisor.names:
            if name == "pacs":
                continue  # what an Orthanc answered Success to is its own to keep
            wait_until(
                lambda: supervisor.is_ready("edge") and supervisor.is_ready("postgres"), 20, "the edge"
            )
            acknowledged |= send_study(lab, tmp_path, 3)
            supervisor.kill(name, signal.SIGKILL)
            wait_until(partial(is_back, supervisor, name), 10, f"{name} to be back")
        assert len(acknowledged) >= 3 * 10
        wait_until(lambda: arrived(lab, database, acknowledged), ARRIVE_SECONDS, "everything to arrive")
    finally:
        database.close()


def test_a_lab_that_is_killed_leaves_no_process_and_starts_again(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill -9 of `mini-pacs lab` ends all its processes, PostgreSQL included; the next start continues."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-tests-"))
    folder.chmod(0o711)
    try:
        first = processes.start("mini-pacs", "lab", "--data", folder / "lab")
        first.wait_for_line("The lab is up", 60)
        mark = f"{folder / 'lab'}#"
        assert len(stray_processes.marked(mark)) > 12
        first.popen.kill()
        wait_until(lambda: not stray_processes.marked(mark), 15, "every process of the lab to end")
        second = processes.start("mini-pacs", "lab", "--data", folder / "lab")
        second.wait_for_line("The lab is up", 60)
        second.popen.send_signal(signal.SIGHUP)  # its terminal is closed
        assert second.wait(60) == 0
        assert "Stopped." in second.text()
        assert not stray_processes.marked(mark)
    finally:
        processes.stop_all()
        shutil.rmtree(folder)


@pytest.mark.timeout(240)
def test_two_labs_that_start_at_once_use_different_ports(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is up when its own processes listen on the ports in its config.yaml."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-tests-"))
    folder.chmod(0o711)
    try:
        for name in ("first", "second"):
            # the same ports in both, as if each had been started alone before
            layout.write(folder / name, layout.configuration(layout.Ports(*SAME_PORTS)))
        started = [
            processes.start("mini-pacs", "lab", "--data", folder / name, name=name)
            for name in ("first", "second")
        ]
        ports: set[int] = set()
        for lab, name in zip(started, ("first", "second"), strict=True):
            lab.wait_for_line("The lab is up", 90)
            configuration = config.load(folder / name / "config.yaml")
            forwarder = configuration.forwarder
            own = {configuration.edge.port, forwarder.orthanc.port, *(w.port for w in forwarder.workers)}
            assert len(own) == 7
            assert not own & ports
            ports |= own
            printed = f"MINI_EDGE on 127.0.0.1:{configuration.edge.port}"
            assert printed in lab.text()
            family = stray_processes.marked(f"{folder / name}#")
            assert all(listens(family, port) for port in own)
        for lab in started:
            assert lab.stop(60) == 0
    finally:
        processes.stop_all()
        shutil.rmtree(folder)
