"""The peers of the benchmarks, each as a process on its own port."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg2.extensions
import pytest

from gateway.lab.layout import free_ports
from support.launcher import REPOSITORY, Process, Processes
from support.waiting import wait_until

READY_SECONDS = 30.0
TESTS = Path(__file__).resolve().parents[1]
AT_ITS_BEST = {"TCP_NODELAY": "1"}
"""DCMTK reads it, in storescp and Orthanc, which use Nagle's algorithm without it.

It costs up to 44 ms for a message of two segments if the other side delays its ACK. Usual installations do
not set it.
"""

NEWER = REPOSITORY / "build" / "newer-orthanc"
"""Where tests/benchmarks/newer-orthanc puts the Orthanc of a later Debian."""

AUTOROUTER = """
function OnStoredInstance(instanceId, tags, metadata)
  SendToModality(instanceId, 'sink')
end
"""


class Sink:
    """The PACS of the benchmarks (`wire_sink.py`)."""

    def __init__(self, processes: Processes, folder: Path, port: int | None = None) -> None:
        self.port = port or free_ports(1)[0]
        self._notes = folder / f"sink-{self.port}.txt"
        self._notes.touch()
        self.process = processes.start(
            "python", "-m", "support.wire_sink", str(self.port), self._notes, PYTHONPATH=str(TESTS)
        )
        self.process.wait_for_port(self.port, READY_SECONDS)

    def count(self) -> int:
        """Return how many instances it has answered."""
        return self._notes.read_bytes().count(b"\n")

    def times(self) -> dict[str, float]:
        """Return when it first answered each, in monotonic seconds of this machine."""
        found: dict[str, float] = {}
        for line in self._notes.read_text(encoding="ascii").splitlines():
            uid, _, at = line.partition(" ")
            found.setdefault(uid, float(at))
        return found

    def wait_for(self, count: int, timeout: float) -> None:
        """Wait until it has answered that many."""
        wait_until(lambda: self.count() >= count, timeout, f"{count} instances at the sink")

    def last_of(self, count: int, timeout: float) -> float:
        """Return when it answered the last of that many, in monotonic seconds."""
        self.wait_for(count, timeout)
        return max(self.times().values())


class Archive:
    """DCMTK's storescp as the PACS; the instances that it answered are files in its folder."""

    def __init__(self, processes: Processes, folder: Path, port: int | None = None) -> None:
        self.port = storescp(processes, folder, port=port)
        self._stored = folder / f"storescp-{self.port}"

    def last_of(self, count: int, timeout: float) -> float:
        """Return when the last of that many was written, in monotonic seconds; check each 20 ms."""
        wait_until(lambda: self._count() >= count, timeout, f"{count} instances at storescp")
        return time.monotonic()

    def _count(self) -> int:
        return sum(1 for _ in os.scandir(self._stored))


def workers(processes: Processes, folder: Path, ports: tuple[int, ...], edge: int, titles: list[str]) -> None:
    """Start workers that answer at once: all in one process, on consecutive ports."""
    process = processes.start(
        "python",
        "-m",
        "support.wire_sink",
        str(ports[0]),
        folder / "workers.txt",
        str(edge),
        *titles,
        PYTHONPATH=str(TESTS),
    )
    for port in ports:
        process.wait_for_port(port, READY_SECONDS)


def storescp(
    processes: Processes, folder: Path, *words: str, port: int | None = None, nodelay: bool = False
) -> int:
    """Start DCMTK's storescp (a process per association, files written but not flushed); return its port."""
    port = port or free_ports(1)[0]
    stored = folder / f"storescp-{port}"
    stored.mkdir()
    program = shutil.which("storescp")
    if program is None:
        pytest.skip("storescp is not installed")
    process = processes.start(
        program,
        "--fork",
        "--max-pdu",
        "131072",
        "-od",
        stored,
        *words,
        str(port),
        **(AT_ITS_BEST if nodelay else {}),
    )
    process.wait_for_port(port, READY_SECONDS)
    return port


@dataclass(frozen=True)
class OrthancProgram:
    """An Orthanc on this machine; `postgresql` is its plugin for an index in PostgreSQL, if it has one."""

    path: str
    version: str
    postgresql: Path | None


def installed_orthanc() -> OrthancProgram:
    """Return the Orthanc of this machine; skip the test without one."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("Orthanc is not installed")
    return _orthanc_program(program, Path("/"))


def newer_orthanc() -> OrthancProgram | None:
    """Return the Orthanc that `make newer-orthanc` has fetched; None without it."""
    return _orthanc_program(str(NEWER / "orthanc"), NEWER) if (NEWER / "orthanc").exists() else None


def _orthanc_program(path: str, root: Path) -> OrthancProgram:
    said = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    plugin = root / "usr/share/orthanc/plugins/libOrthancPostgreSQLIndex.so"
    return OrthancProgram(path, said.split()[1], plugin if plugin.exists() else None)


def orthanc(
    processes: Processes,
    folder: Path,
    *,
    route_to: int | None = None,
    nodelay: bool = False,
    program: OrthancProgram | None = None,
    index: str | None = None,
) -> int:
    """Start Orthanc with defaults except the PDU length; return its port.

    With `route_to`, it forwards to that port. `program` is the installed one by default. `index` is the DSN
    of the PostgreSQL that keeps its index; by default it is in SQLite.
    """
    program = program or installed_orthanc()
    port, http = free_ports(2)
    place = folder / f"orthanc-{port}"
    place.mkdir()
    settings: dict[str, object] = {
        "StorageDirectory": str(place / "storage"),
        "IndexDirectory": str(place / "index"),
        "Plugins": [],
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "DicomAlwaysAllowStore": True,
        "MaximumPduLength": 131_072,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
    }
    if route_to is not None:
        (place / "route.lua").write_text(AUTOROUTER, encoding="ascii")
        settings["LuaScripts"] = [str(place / "route.lua")]
        settings["DicomModalities"] = {"sink": ["SINK", "127.0.0.1", route_to]}
    if index is not None:
        assert program.postgresql is not None, "this Orthanc has no plugin for PostgreSQL"
        settings["Plugins"] = [str(program.postgresql)]
        server = psycopg2.extensions.parse_dsn(index)
        settings["PostgreSQL"] = {
            "EnableIndex": True,
            "EnableStorage": False,
            "Host": server["host"],
            "Port": int(server.get("port", 5432)),
            "Database": server["dbname"],
            "Username": server["user"],
            "Password": server.get("password", ""),
        }
    path = place / "orthanc.json"
    path.write_text(json.dumps(settings), encoding="ascii")
    process = processes.start(program.path, path, **(AT_ITS_BEST if nodelay else {}))
    process.wait_for_port(port, READY_SECONDS)
    return port


def stock(processes: Processes) -> int:
    """Start stock pynetdicom with every Storage SOP Class in every transfer syntax; return its port."""
    port = free_ports(1)[0]
    process: Process = processes.start(sys.executable, TESTS / "support" / "wire_pynetdicom.py", str(port))
    process.wait_for_port(port, READY_SECONDS)
    return port
