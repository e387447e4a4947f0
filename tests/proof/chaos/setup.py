"""The environment of a run: the lab, its misbehaving PACS, the proxies, the disk, and the senders.

Everything is in one folder and ends with `close`. The lab's watchdog ends its processes if this one is
killed, and the mount namespace ends with the spool's file system.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gateway.lab import layout
from gateway.lab.lab import Lab
from gateway.lab.monitoring import exporter
from gateway.lab.stray_processes import MARK
from proof.chaos.disk import Disk
from proof.chaos.pacs import ChaosPacs
from proof.chaos.sender import SenderOptions
from proof.chaos.tcp_proxy import TcpProxy
from proof.chaos.worker import watched

if TYPE_CHECKING:
    from gateway.lab.program import Program
    from gateway.lab.supervisor import Supervisor

TESTS = Path(__file__).resolve().parents[2]
SENDERS = tuple(f"MODALITY{number}" for number in range(6))
ARCHIVE = "VNA"
RESPAWN_SECONDS = 0.3
STOP_SECONDS = 30.0

EDGE = {
    "allowed_calling_aets": [*layout.WORKERS, *SENDERS],
    "commit_timeout_seconds": 3,
    "network_timeout_seconds": 8,
    "disk_reserve_mb": 0,  # so that writes fail, not only associations
}
FORWARDER = {
    "backoff_base_seconds": 0.5,
    "backoff_max_seconds": 5,
    "connect_timeout_seconds": 2,
    "probe_interval_seconds": 1,
    "lease_seconds": 20,
}
SWEEP = {"retention_hours": 0.015, "orphan_grace_seconds": 60, "reconcile_grace_seconds": 20}
PACS_TIMEOUT_SECONDS = 4
WORKER_TIMEOUT_SECONDS = 4


HOSPITAL: dict[str, dict[str, Any]] = {
    "chest-ct": {
        "accepts": {"attribute": "Modality", "equals": "CT"},
        "unit": "series",
        "complete_after_seconds": 2,
        "max_wait_seconds": 20,
        "result_timeout_seconds": 8,
    },
    "any-mr": {
        "accepts": {"attribute": "Modality", "equals": "MR"},
        "unit": "study",
        "complete_after_seconds": 3,
        "max_wait_seconds": 30,
        "late": "resend_all",
        "result_timeout_seconds": 8,
    },
}
"""The applications of a hospital, without their workers."""
CHEST_CT_WORKERS = 3
"""The first workers are replicas of chest-ct, the others of any-mr."""
NO_MAMMOGRAM = {"not": {"attribute": "Modality", "equals": "MG"}}


def _make_hospital(forwarder: dict[str, Any]) -> None:
    """Replace the list of workers by two applications, and let the archives take no mammogram."""
    workers = forwarder.pop("workers")
    shares = (workers[:CHEST_CT_WORKERS], workers[CHEST_CT_WORKERS:])
    forwarder["applications"] = {
        name: {**keys, "workers": share} for (name, keys), share in zip(HOSPITAL.items(), shares, strict=True)
    }
    for archive in (forwarder["orthanc"], *forwarder["archives"]):
        archive["accepts"] = NO_MAMMOGRAM


class _Lab(Lab):
    """The lab, whose workers record the digests of what they receive and send, with an archive `archive`."""

    archive: ChaosPacs
    metrics_port: int | None = None
    """The port of the exporter; None without one."""

    def _monitoring(self) -> "list[Program]":
        if self.metrics_port is None:
            return []
        return [exporter(self.environment, self.metrics_port)]

    def _archives(self) -> "list[Program]":
        return [self.archive.program()]

    def _workers(self) -> "list[Program]":
        plain = super()._workers()
        return [watched(program, journal_of(self.folder, program.name)) for program in plain]


def journal_of(lab: Path, worker: str) -> Path:
    """Return the journal of that worker."""
    return lab.parent / f"worked-{worker}.txt"


class Setup:
    """The parts, running from `open` to `close`; `rate` is the total of all senders per second."""

    forwarder: ClassVar[dict[str, Any]] = FORWARDER

    def __init__(
        self, folder: Path, *, seed: int, rate: float, is_hospital: bool = False, has_metrics: bool = False
    ) -> None:
        self.folder = folder
        self.is_hospital = is_hospital
        self._seed = seed
        self._rate = rate
        ports = layout.choose_ports(well_known=False)
        behind_senders, behind_pacs, archive = layout.free_ports(3)
        content = layout.configuration(ports, {"edge": EDGE, "forwarder": self.forwarder, "sweep": SWEEP})
        content["forwarder"]["orthanc"]["timeout_s"] = PACS_TIMEOUT_SECONDS
        content["forwarder"]["archives"] = [
            {"host": layout.LOOPBACK, "port": archive, "ae_title": ARCHIVE, "timeout_s": PACS_TIMEOUT_SECONDS}
        ]
        for worker in content["forwarder"]["workers"]:
            worker["timeout_s"] = WORKER_TIMEOUT_SECONDS
        if is_hospital:
            _make_hospital(content["forwarder"])
        folder.mkdir(parents=True, exist_ok=True)
        layout.write(folder / "lab", content)
        self.disk = Disk(folder / "lab" / "data", folder / "memory")
        # A series in an unfinished collection would be no instance that the ledger can account for.
        self.lab = _Lab(folder / "lab", worker_environment={"WORKER_UNIT": "instance"})
        self.pacs = ChaosPacs(folder / "pacs", self.lab.configuration.forwarder.orthanc.ae_title, behind_pacs)
        if has_metrics:
            [self.lab.metrics_port] = layout.free_ports(1)
        self.lab.pacs = self.pacs
        self.archive = self.lab.archive = ChaosPacs(folder / "archive", ARCHIVE, archive, name="archive")
        self.sender_proxy = TcpProxy(behind_senders, ports.edge)
        self.pacs_proxy = TcpProxy(ports.pacs, behind_pacs)
        self._sender_port = behind_senders
        self._senders: list[subprocess.Popen[bytes] | None] = [None] * len(SENDERS)
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep_senders, name="senders")
        self._begun = 0.0

    # ---- life ----------------------------------------------------------------------------------------

    def open(self, before_senders: Callable[[], None] = lambda: None) -> None:
        """Start everything; call `before_senders` when all but the senders runs."""
        self.lab.start()
        before_senders()
        self.pacs_proxy.open()
        self.sender_proxy.open()
        self._begun = time.time()
        self._keeper.start()

    @property
    def supervisor(self) -> "Supervisor":
        """Return the supervisor; the lab must be open."""
        assert self.lab.supervisor is not None
        return self.lab.supervisor

    def stop_senders(self) -> None:
        """Stop all senders; each finishes what it began, if it can."""
        if self._ending.is_set() or not self._keeper.is_alive():
            return
        self._ending.set()
        self._keeper.join()
        for sender in self._senders:
            if sender is not None:
                sender.terminate()
        for sender in self._senders:
            if sender is None:
                continue
            try:
                sender.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                sender.kill()
                sender.wait()

    def close(self) -> None:
        """Stop everything."""
        self.stop_senders()
        self.lab.stop()
        for proxy in (self.sender_proxy, self.pacs_proxy):
            proxy.close()
        self.disk.close()

    # ---- senders -------------------------------------------------------------------------------------

    def journals(self) -> list[Path]:
        """Return the journal of each sender."""
        return [self.folder / f"sent-{number}.txt" for number in range(len(SENDERS))]

    def workers_journals(self) -> dict[str, Path]:
        """Return the journal of each worker by its AE title."""
        return {name: journal_of(self.lab.folder, name.lower()) for name in layout.WORKERS}

    def signal_sender(self, dice: float, number: int) -> bool:
        """Send that signal to one of the senders; return False if it does not run just now."""
        sender = self._senders[int(dice * len(SENDERS))]
        if sender is None or sender.poll() is not None:
            return False
        sender.send_signal(number)
        return True

    def _keep_senders(self) -> None:
        while not self._ending.wait(RESPAWN_SECONDS):
            for number, sender in enumerate(self._senders):
                if sender is None or sender.poll() is not None:
                    self._senders[number] = self._start_sender(number)

    def _start_sender(self, number: int) -> subprocess.Popen[bytes]:
        edge = self.lab.configuration.edge
        order = SenderOptions(
            seed=self._seed,
            sender=number,
            senders=len(SENDERS),
            calling_ae_title=SENDERS[number],
            called_ae_title=edge.ae_title,
            port=self._sender_port,
            journal=str(self.journals()[number]),
            rate=self._rate_of(number),
            begun=self._begun,
            hospital=self.is_hospital,
        )
        with (self.folder / f"sender-{number}.out").open("ab") as output:
            return subprocess.Popen(
                self._program(order),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=TESTS,
                # the mark of the lab, so that its watchdog ends the senders too
                env={**os.environ, "PYTHONPATH": str(TESTS), MARK: f"{self.lab.folder.resolve()}#sender"},
                start_new_session=True,
            )

    def _program(self, order: SenderOptions) -> tuple[str, ...]:
        return (sys.executable, "-m", "proof.chaos.sender", order.text())

    def _rate_of(self, _number: int) -> float:
        return self._rate / len(SENDERS)

    # ---- processes of the lab ------------------------------------------------------------------------

    def choose(self, name: str, dice: float, *, below: bool) -> list[int]:
        """Return the leader and all processes below it; or one of those below it, if there are any."""
        pids = self.supervisor.pids(name)
        if not below or len(pids) < 2:
            return pids
        return [pids[1 + int(dice * (len(pids) - 1))]]
