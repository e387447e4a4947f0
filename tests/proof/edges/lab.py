"""An edge with its PACS and its workers: each process as the documentation says, and no supervisor."""

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydicom.dataset import Dataset

from proof.edges import sender
from proof.edges.certificates import Authority
from proof.edges.machine import (
    NOBODY,
    Namespace,
    drop_to_nobody,
    free_port,
    is_open,
    mount_ext4,
    mount_tmpfs,
    program,
    unmount,
    wait_for,
    wrong_clock,
)
from proof.edges.postgres import OWNER, ROLE, Server

BIN = Path(sys.executable).parent
DRAMATIQ = ["dramatiq", "actors", "-p", "1", "-t", "8", "--worker-fork-timeout", "2000", "-Q"]
Config = dict[str, Any]
_TREE = Path(__file__).parents[3]


@dataclass(frozen=True)
class Setup:
    """What a family of edges needs of its lab."""

    name: str
    config: Config = field(default_factory=dict)
    spool: str = ""  # a file system of its own for the spool: "tmpfs 32m", "ext4 64"
    database_mb: int = 0  # size of the file system of PostgreSQL; 0: the one of the folder
    nobody: bool = False  # the processes of the edge run as another user
    namespace: bool = False  # the PACS is in a network namespace
    database_clock: int = 0  # seconds that PostgreSQL's clock is ahead


def merge(base: Config, changes: Config) -> Config:
    """Return `base` with `changes`, section by section; None deletes a key."""
    merged = dict(base)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


class Lab:
    """One running edge."""

    def __init__(self, setup: Setup, number: int) -> None:
        """Build and start it; `number` tells labs apart that run at the same time."""
        self.setup = setup
        self.folder = Path(tempfile.mkdtemp(prefix=f"mini-pacs-edges-{setup.name}-"))
        self.folder.chmod(0o755)
        self.data, self.logs = self.folder / "data", self.folder / "logs"
        self.config_file = self.folder / "config.yaml"
        self.received = self.folder / "pacs"
        self.port, self.pacs_port, self.vna_port = free_port(), free_port(), free_port()
        self.worker_ports = {"APP01": free_port(), "APP02": free_port()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.extra: list[subprocess.Popen[bytes]] = []
        self.namespace: Namespace | None = None
        self.authority = Authority(self.folder / "tls", "hospital")
        self.facts: dict[str, str] = {}  # what is only known once the edge is broken: {pid} in a pattern
        self.tls: ssl.SSLContext | None = None
        self._restarts: dict[str, tuple[list[str], dict[str, str] | None]] = {}
        self._closed = threading.Event()
        self.server: Server
        try:
            self._build(number)
        except BaseException:
            self.close()
            raise

    def _build(self, number: int) -> None:
        for folder in (self.data, self.logs, self.received):
            folder.mkdir(exist_ok=True)
        if self.setup.spool:
            kind, _, size = self.setup.spool.partition(" ")
            if kind == "tmpfs":
                mount_tmpfs(self.data, size)
            else:
                mount_ext4(self.data, self.folder / "spool.img", int(size))
        if self.setup.nobody:
            for folder in (self.data, self.logs):
                os.chown(folder, NOBODY, NOBODY)
        if self.setup.namespace:
            self.namespace = Namespace(number)
        database = self.folder / "postgres"
        if self.setup.database_mb:
            mount_tmpfs(database, f"{self.setup.database_mb}m")
        clock = wrong_clock(self.folder, self.setup.database_clock) if self.setup.database_clock else None
        self.server = Server(database, environment=clock)
        self.server.start()
        self.server.create()
        self.base = self._base_config()
        self.write(self.base)
        self.environment = os.environ | {
            "MINI_PACS_CONFIG": str(self.config_file),
            "DATABASE_URL": self.server.url(),
            "COLUMNS": "200",
            # this tree, whatever the environment has installed
            "PYTHONPATH": f"{_TREE}{os.pathsep}{_TREE / 'tests'}",
        }
        self.mini_pacs("db", "migrate", role=OWNER)
        self.mini_pacs("db", "grant", ROLE, role=OWNER)
        self.pacs_ok()
        for title in self.worker_ports:
            self.worker(title)
        for name in ("serve", "pacs", "workers", "sweep", "scheduler"):
            self.start(name)
        threading.Thread(target=self._supervise, daemon=True).start()
        wait_for("the port of the edge", lambda: is_open(self.port))
        self.tls = self._sender_tls()
        wait_for("an instance that the edge accepts", self._is_sent, 60, pause=0.5)
        wait_for("an instance and its result in the PACS", lambda: len(self.at_pacs()) >= 2, 60)

    def sent_again(self) -> None:
        """Send as a modality whose images were refused does: until they are taken."""
        wait_for("an instance that the edge accepts", self._is_sent, 30, pause=1.0)

    def _is_sent(self) -> bool:
        """Send an instance; tell whether the edge took it: it takes none before it knows its spool."""
        try:
            self.send(1)
        except (sender.NotAssociatedError, RuntimeError):
            return False
        return True

    def _base_config(self) -> Config:
        base: Config = {
            "edge": {
                "ae_title": "MINI_EDGE",
                "bind_address": "127.0.0.1",
                "port": self.port,
                "data_root": str(self.data),
                "log_path": str(self.logs / "edge.log"),
                "allowed_calling_aets": ["CT1", "PACS", "APP01", "APP02"],
                "receivers": 1,
                "disk_reserve_mb": 8,
                "duplicate_window_seconds": 2,
            },
            "forwarder": {
                "max_retries": 1,
                "backoff_base_seconds": 1,
                "probe_interval_seconds": 2,
                "connect_timeout_seconds": 3,
                "lease_seconds": 30,
                "worker_timeout_seconds": 5,
                "max_redispatch": 1,
                "orthanc": {
                    "host": self.pacs_address,
                    "port": self.pacs_port,
                    "ae_title": "PACS",
                    "timeout_s": 4,
                },
                "workers": [
                    {"host": "127.0.0.1", "port": port, "ae_title": title, "timeout_s": 4}
                    for title, port in self.worker_ports.items()
                ],
            },
        }
        return merge(base, self.setup.config)

    @property
    def pacs_address(self) -> str:
        """Where the PACS listens."""
        return self.namespace.address if self.namespace else "127.0.0.1"

    def _sender_tls(self) -> ssl.SSLContext | None:
        if "tls" not in self.base["edge"]:
            return None
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    # -- configuration

    def write(self, config: Config) -> None:
        """Write config.yaml, without loading it."""
        self.config = config
        self.config_file.write_text(yaml.safe_dump(config, sort_keys=False))

    def configure(self, changes: Config) -> None:
        """Change config.yaml against what the lab began with, and load it."""
        self.write(merge(self.base, changes))
        self.mini_pacs("config", "reload", "--yes")

    def configure_pacs(self, **keys: Any) -> None:
        """Change keys of forwarder.orthanc, and load them."""
        self.configure({"forwarder": {"orthanc": keys}})

    # -- processes of the edge

    def argv(self, name: str) -> list[str]:
        """Return the documented command of a process of the edge."""
        if name == "serve":
            return [str(BIN / "mini-pacs"), "serve"]
        if name == "scheduler":
            return [str(BIN / "periodiq"), "actors"]
        return [str(BIN / DRAMATIQ[0]), *DRAMATIQ[1:], name]

    def start(self, name: str, *, environment: dict[str, str] | None = None, label: str = "") -> None:
        """Start a process of the edge."""
        before = drop_to_nobody() if self.setup.nobody else []
        argv = [*before, *self.argv(name)]
        self._restarts[label or name] = (argv, environment)
        self.processes[label or name] = self._spawn(argv, label or name, environment)

    def _supervise(self) -> None:
        """Start a process of the edge again that ended by itself, as a supervisor does."""
        while not self._closed.wait(1.0):
            for name, (argv, environment) in list(self._restarts.items()):
                process = self.processes.get(name)
                if process is not None and process.poll() is not None and not self._closed.is_set():
                    self.processes[name] = self._spawn(argv, name, environment)

    def _spawn(
        self, argv: Sequence[str], name: str, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.out").open("ab") as output:
            return subprocess.Popen(
                argv,
                env=self.environment | (environment or {}),
                cwd=self.folder,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def send_signal(self, name: str, kind: signal.Signals) -> None:
        """Send a signal to a process and its children."""
        os.killpg(self.processes[name].pid, kind)

    def stop(self, name: str, kind: signal.Signals = signal.SIGKILL) -> None:
        """End a process of the lab with its children."""
        process = self.processes.pop(name, None)
        if process is not None:
            _end(process, kind)

    def restart(self, *names: str) -> None:
        """Stop processes of the edge properly, and start them again."""
        for name in names:
            self.stop(name, signal.SIGTERM)
        for name in names:
            self.start(name)
        if "serve" in names:
            wait_for("the port of the edge", lambda: is_open(self.port))

    # -- the PACS and the workers

    def pacs(self, *argv: str, inside: bool = True) -> None:
        """Put another program in the place of the PACS."""
        self.stop("PACS")
        before = ["ip", "netns", "exec", self.namespace.name] if self.namespace and inside else []
        self.processes["PACS"] = self._spawn([*before, *argv], "PACS")
        if not self.namespace:
            wait_for("the PACS", lambda: is_open(self.pacs_port))

    def pacs_ok(self, *options: str) -> None:
        """Start a healthy PACS, DCMTK's storescp."""
        healthy = ["--fork", "-aet", "PACS", "-od", str(self.received), "-uf", "-pm", "+xa", *options]
        self.pacs(program("storescp"), *healthy, str(self.pacs_port))

    def pacs_peer(self, *options: str) -> None:
        """Put the peer with a chosen misbehaviour in the place of the PACS."""
        self.pacs(*self.peer("PACS", self.pacs_port, "--address", self.pacs_address, *options))

    def peer(self, title: str, port: int, *options: str) -> list[str]:
        """Return the command of a peer."""
        return [sys.executable, "-m", "proof.edges.peer", title, str(port), *options]

    def worker(self, title: str, *options: str) -> None:
        """Start a worker, or put another one in its place; by default it returns results."""
        self.stop(title)
        port = self.worker_ports[title]
        chosen = options or ("--store", "result")
        self.processes[title] = self._spawn(self.peer(title, port, "--edge", str(self.port), *chosen), title)
        wait_for(title, lambda: is_open(port))

    def at_pacs(self) -> list[Path]:
        """Return the files that the healthy PACS has."""
        return [path for path in self.received.iterdir() if path.is_file()]

    # -- senders and operators

    def send(
        self, count: int = 1, *, calling: str = "CT1", called: str = "MINI_EDGE", modality: str = "CT"
    ) -> list[Dataset]:
        """Send new instances that the edge has to accept; return them."""
        made = [sender.synthetic(modality=modality) for _ in range(count)]
        statuses = sender.send(self.port, made, calling=calling, called=called, tls=self.tls)
        if any(statuses):
            raise RuntimeError(f"the edge answered {[hex(status) for status in statuses]}")
        return made

    def command(
        self, *words: str, role: str = ROLE, seconds: float = 90.0
    ) -> subprocess.CompletedProcess[str]:
        """Run `mini-pacs` as an operator does."""
        environment = self.environment
        if role != ROLE:
            environment = environment | {"DATABASE_URL": self.server.url(role, "")}
        argv = [str(BIN / "mini-pacs"), *words]
        process = subprocess.Popen(
            argv,
            env=environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        try:
            output, error = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()  # without a wait: a process in a disk that hangs cannot be killed
            raise
        return subprocess.CompletedProcess(argv, process.returncode, output, error)

    def mini_pacs(self, *words: str, role: str = ROLE) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.command(*words, role=role)
        if done.returncode:
            raise RuntimeError(f"mini-pacs {' '.join(words)}: {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def settled(self, seconds: float = 60.0) -> None:
        """Wait until no delivery waits."""

        def waits() -> bool:
            document = json.loads(self.mini_pacs("deliveries", "list", "--state", "pending", "--json"))
            return bool(document["items"])

        wait_for("the deliveries", lambda: not waits(), seconds, pause=1.0)

    def helper(self, *argv: str, name: str = "helper") -> subprocess.Popen[bytes]:
        """Start a further program that ends with the lab."""
        started = self._spawn(list(argv), name)
        self.extra.append(started)
        return started

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End a further program."""
        _end(process, signal.SIGKILL)

    def close(self) -> None:
        """End everything and delete the folder."""
        self._closed.set()
        for process in [*self.processes.values(), *self.extra]:
            _end(process, signal.SIGKILL)
        if hasattr(self, "server"):
            self.server.stop()
        if self.namespace:
            self.namespace.close()
        for folder in (self.data, self.folder / "postgres", self.logs):
            with contextlib.suppress(RuntimeError):
                unmount(folder)
        shutil.rmtree(self.folder, ignore_errors=True)


def _end(process: subprocess.Popen[bytes], kind: signal.Signals) -> None:
    """End a process and its children; after 15 s by SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)
    if process.poll() is None and kind != signal.SIGKILL:
        process.send_signal(kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(15)
