"""The PACS of a lab: an Orthanc where one is installed, else the archive of the lab. The other archives.

Both are programs for the supervisor, and list the instances that they hold. The guarantees of the gateway end
with the answer of the PACS. After it, the PACS must not lose the instance, even if kill -9 ends it.
"""

import json
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Protocol

from gateway.config import Configuration
from gateway.errors import LabError
from gateway.lab.layout import LOOPBACK
from gateway.lab.program import Program

ANSWER_SECONDS = 20.0
"""Must exceed Orthanc's listing of some ten thousand instances while it stores others."""


class Pacs(Protocol):
    """The PACS as the lab uses it."""

    title: str

    def program(self) -> Program:
        """Write the configuration of the PACS and return its supervised command."""

    def holds(self) -> set[str]:
        """Return the SOP Instance UIDs that it holds; raise LabError while it does not answer."""


class Orthanc:
    """A real Orthanc that serves this machine only.

    Orthanc has no setting for the address of its DICOM port; versions since September 2025 have one for that
    of its HTTP port. Without one, a port is open on every address of the machine. It accepts an association
    only from 127.0.0.1 and with an AE title that it knows. It answers each HTTP request from another machine
    with 401.
    """

    title = "Orthanc"

    def __init__(self, executable: str, folder: Path, configuration: Configuration, http_port: int) -> None:
        self._executable = executable
        self._folder = folder
        self._configuration = configuration
        self._url = f"http://{LOOPBACK}:{http_port}"
        self._http_port = http_port

    @property
    def url(self) -> str:
        """Return the address of its REST API and web pages."""
        return self._url

    def program(self) -> Program:
        """Write a configuration for this lab and return Orthanc in the foreground."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "orthanc.json"
        path.write_text(json.dumps(self._settings(), indent=2), encoding="utf-8")
        ports = (self._configuration.forwarder.orthanc.port, self._http_port)
        return Program("pacs", (self._executable, str(path)), ports=ports, ready=self._answers)

    def holds(self) -> set[str]:
        """Return the SOP Instance UIDs that its REST API lists."""
        query = {"Level": "Instance", "Expand": True, "Query": {}}
        found = self._ask("/tools/find", query)
        return {instance["MainDicomTags"]["SOPInstanceUID"] for instance in found}

    def _settings(self) -> dict[str, Any]:
        configuration = self._configuration
        pacs, edge = configuration.forwarder.orthanc, configuration.edge
        return {
            "Name": "MINI_PACS_LAB",
            "StorageDirectory": str(self._folder / "storage"),
            "IndexDirectory": str(self._folder / "index"),
            "Plugins": [],
            "DicomAet": pacs.ae_title,
            "DicomPort": pacs.port,
            "DicomCheckCalledAet": True,
            "DicomCheckModalityHost": True,  # of the modalities below, which are all on this machine
            "DicomAlwaysAllowStore": False,  # else it accepts associations from any address
            "DicomAlwaysAllowEcho": False,
            "DicomModalities": {"edge": [edge.ae_title, LOOPBACK, edge.port]},
            "UnknownSopClassAccepted": True,
            "OverwriteInstances": True,  # an instance that is sent again is stored again
            "StableAge": 2,
            "HttpPort": self._http_port,
            "HttpBindAddresses": [LOOPBACK],  # older versions ignore it
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "ConcurrentJobs": 1,
            **{
                f"{syntax}TransferSyntaxAccepted": True
                for syntax in ("Deflated", "Jpeg", "JpegLossless", "Jpeg2000", "Jpip", "Mpeg2", "Rle")
            },
        }

    def _answers(self) -> bool:
        try:
            self._ask("/system")
        except LabError:
            return False
        return True

    def _ask(self, path: str, query: dict[str, Any] | None = None) -> Any:  # noqa: ANN401  JSON
        body = None if query is None else json.dumps(query).encode()
        request = urllib.request.Request(self._url + path, body)  # noqa: S310  http on loopback
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
                return json.load(answer)
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise LabError(f"Orthanc at {self._url} does not answer: {error}") from error


class Archive:
    """The archive of the lab, `python -m gateway.lab.archive`; `arguments` make it misbehave in tests."""

    title = "archive of the lab"

    def __init__(
        self, folder: Path, ae_title: str, port: int, arguments: tuple[str, ...] = (), *, name: str = "pacs"
    ) -> None:
        self._folder = folder
        self._ae_title = ae_title
        self._port = port
        self._arguments = arguments
        self._name = name

    def program(self) -> Program:
        """Return the archive in the foreground."""
        fixed = ("--folder", str(self._folder), "--ae-title", self._ae_title, "--port", str(self._port))
        command = (sys.executable, "-m", "gateway.lab.archive", *fixed, *self._arguments)
        return Program(self._name, command, ports=(self._port,))

    def holds(self) -> set[str]:
        """Return the SOP Instance UIDs of the files in its folder."""
        return {path.stem for path in self._folder.glob("*.dcm")}


def choose(folder: Path, configuration: Configuration, http_port: int) -> Pacs:
    """Return an Orthanc where one is installed, else the archive."""
    executable = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if executable is not None:
        return Orthanc(executable, folder, configuration, http_port)
    pacs = configuration.forwarder.orthanc
    return Archive(folder, pacs.ae_title, pacs.port)


def others(folder: Path, configuration: Configuration) -> list[Archive]:
    """Return the archives of `forwarder.archives` that are on this machine; each is an archive of the lab."""
    return [
        Archive(folder / one.ae_title, one.ae_title, one.port, name=f"archive-{one.ae_title.lower()}")
        for one in configuration.forwarder.archives
        if one.host == LOOPBACK
    ]
