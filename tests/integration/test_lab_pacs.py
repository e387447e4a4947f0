"""The PACS of the lab, Orthanc or our archive, stores the instances of real senders."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from support.waiting import wait_until

from gateway.config import Configuration
from gateway.lab import layout
from gateway.lab.pacs import Archive, Orthanc, Pacs, choose
from gateway.lab.supervisor import Supervisor
from gateway.sender.generate import Study, generate, write
from gateway.sender.outgoing import Outgoing

ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")


@pytest.fixture
def instance(tmp_path: Path) -> Outgoing:
    """Return one generated CT instance."""
    [data_set] = generate(Study(1, datetime.now(UTC), "CT"))
    return write(data_set, tmp_path / "instances")


@pytest.fixture(params=["Orthanc", "archive"])
def pacs(
    request: pytest.FixtureRequest, tmp_path: Path, configuration: Configuration
) -> Iterator[tuple[Pacs, Supervisor]]:
    """Yield a running PACS of each kind."""
    port = configuration.forwarder.orthanc.port
    the_pacs: Pacs
    if request.param == "archive":
        the_pacs = Archive(tmp_path / "pacs", "ORTHANC", port)
    elif ORTHANC is None:
        pytest.skip("Orthanc is not installed")
    else:
        the_pacs = Orthanc(ORTHANC, tmp_path / "pacs", configuration, layout.free_ports(1)[0])
    supervisor = Supervisor(tmp_path / "lab", [[the_pacs.program()]])
    supervisor.start()
    try:
        yield the_pacs, supervisor
    finally:
        supervisor.stop()


def storescu(path: Path, port: int, called: str = "ORTHANC") -> subprocess.CompletedProcess[str]:
    """Send one file with DCMTK's storescu."""
    words = ["storescu", "-aec", called, "-aet", "MINI_EDGE", "127.0.0.1", str(port), str(path)]
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin"}  # pynetdicom installs commands of the same names
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)


def test_it_keeps_and_lists_what_it_is_sent(
    pacs: tuple[Pacs, Supervisor], configuration: Configuration, instance: Outgoing
) -> None:
    """`holds` lists every acknowledged instance, sent once or twice, also after a restart."""
    the_pacs, supervisor = pacs
    port = configuration.forwarder.orthanc.port
    assert the_pacs.holds() == set()
    for _ in range(2):
        done = storescu(instance.path, port)
        assert done.returncode == 0, done.stderr
    wait_until(lambda: the_pacs.holds() == {instance.sop_instance_uid}, 5, "the PACS to hold it")
    supervisor.take_down("pacs")
    supervisor.bring_up("pacs")
    supervisor.wait_ready()
    assert the_pacs.holds() == {instance.sop_instance_uid}


@pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed")
def test_orthanc_serves_this_machine_only(tmp_path: Path, configuration: Configuration) -> None:
    """Another address than 127.0.0.1, or an unknown AE title, gets no association and no HTTP answer."""
    assert ORTHANC is not None
    [http] = layout.free_ports(1)
    port = configuration.forwarder.orthanc.port
    orthanc = Orthanc(ORTHANC, tmp_path / "pacs", configuration, http)
    supervisor = Supervisor(tmp_path / "lab", [[orthanc.program()]])
    supervisor.start()
    try:
        assert associates("127.0.0.1", "MINI_EDGE", port)
        assert not associates("127.0.0.1", "SOMEBODY", port)
        assert not associates("127.0.0.2", "MINI_EDGE", port)
        assert not associates("127.0.0.2", "SOMEBODY", port)
        assert asks("127.0.0.1", http) == 200
        assert asks("127.0.0.2", http) == 401
    finally:
        supervisor.stop()


def associates(source: str, calling_ae_title: str, port: int) -> bool:
    """Tell whether a requestor at the address `source` gets an association."""
    entity = AE(calling_ae_title)
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", port, ae_title="ORTHANC", bind_address=(source, 0))
    established = bool(association.is_established)
    if established:
        association.release()
    return established


def asks(source: str, port: int) -> int:
    """Return the HTTP status that a client at the address `source` gets."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10, source_address=(source, 0))
    try:
        connection.request("GET", "/system")
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_archive_writes_part_10_files(tmp_path: Path, instance: Outgoing) -> None:
    """Each is a readable Part 10 file with the data set that was sent."""
    [port] = layout.free_ports(1)
    archive = Archive(tmp_path / "pacs", "ORTHANC", port)
    supervisor = Supervisor(tmp_path / "lab", [[archive.program()]])
    supervisor.start()
    try:
        assert storescu(instance.path, port).returncode == 0
        kept = dcmread(tmp_path / "pacs" / f"{instance.sop_instance_uid}.dcm")
        assert kept == dcmread(instance.path)
        assert storescu(instance.path, port, called="SOMEBODY").returncode != 0
    finally:
        supervisor.stop()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--status", "A700"), "OutOfResources"),
        (("--abort-mid-data-set",), "Abort"),
        (("--reject",), "Reject"),
    ],
)
def test_the_archive_misbehaves_on_request(
    tmp_path: Path, instance: Outgoing, arguments: tuple[str, ...], expected: str
) -> None:
    """It refuses, aborts or rejects as requested, and keeps nothing."""
    [port] = layout.free_ports(1)
    archive = Archive(tmp_path / "pacs", "ORTHANC", port, arguments)
    supervisor = Supervisor(tmp_path / "lab", [[archive.program()]])
    supervisor.start()
    try:
        words = ["/usr/bin/storescu", "-v", "-aec", "ORTHANC", "127.0.0.1", str(port), str(instance.path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert expected.lower() in (done.stdout + done.stderr).lower()
        assert archive.holds() == set()
        assert not list((tmp_path / "pacs").iterdir())
    finally:
        supervisor.stop()


def test_the_archive_ends_on_sigterm_with_a_connection_open(tmp_path: Path) -> None:
    """A silent connection does not delay its end."""
    [port] = layout.free_ports(1)
    supervisor = Supervisor(tmp_path / "lab", [[Archive(tmp_path / "pacs", "ORTHANC", port).program()]])
    supervisor.start()
    try:
        with socket.create_connection(("127.0.0.1", port)):
            supervisor.take_down("pacs")
        assert not layout.is_listening(port)
    finally:
        supervisor.stop()


def test_a_real_orthanc_is_preferred(tmp_path: Path, configuration: Configuration) -> None:
    """The lab uses Orthanc if it is installed."""
    chosen = choose(tmp_path, configuration, 1)
    assert isinstance(chosen, Archive if ORTHANC is None else Orthanc)
