"""One PostgreSQL and one configuration for all runs; for each run a copy of what was prepared.

A `Run` is a folder (config.yaml, spool, logs, the peers' journal) and a database. Both are copies, so that a
crash changes nothing else. All runs use the same ports, since only one is active at a time.
"""

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import make_dsn
from support.edge_setup import store
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway import config
from gateway.database.migrate import migrate
from gateway.database.pool import Database
from gateway.dicom.association import PeerAddress
from gateway.dicom.requestor import associate
from gateway.errors import PeerError
from gateway.lab import layout
from gateway.lab.postgres import EmbeddedPostgres
from gateway.register.unregistered import REFUSED
from gateway.spool.identity import SpoolIdentity
from gateway.spool.marks import SEEN
from gateway.spool.partial import SUFFIX
from proof.crash_points.child_processes import Child, actors, peers, scp
from proof.crash_points.points import Point, Trap

EMPTY = "prepared_empty"
READY_SECONDS = 30.0
REGISTER_SECONDS = 30.0
NOBODY_LISTENS = 1
"""A port on which no PostgreSQL listens."""
WORKERS = 2
CHANGES: dict[str, dict[str, Any]] = {
    "edge": {"receivers": 1, "disk_reserve_mb": 0},
    "forwarder": {
        "backoff_base_seconds": 0.05,
        "backoff_max_seconds": 0.1,
        "probe_interval_seconds": 0.3,
        "worker_timeout_seconds": 3600,
    },
    "sweep": {"orphan_grace_seconds": 0.05, "reconcile_grace_seconds": 0.05, "retention_hours": 24},
}
APPLICATION = "chest-ct"
UNITS = {
    "unit": "series",
    "complete_after_seconds": 0.5,
    "max_wait_seconds": 60,
    "late": "resend_all",
    "max_redispatch": 1,
}
"""The keys of the application of the second configuration."""

Batch = tuple[str, Sequence[Instance]]
"""A calling AE title and the instances that it sends over one association."""


@dataclass
class Senders:
    """The instances that the senders of a run have to send, and those that were acknowledged."""

    batches: list[Batch] = field(default_factory=list)
    acknowledged: list[Instance] = field(default_factory=list)

    def copy(self) -> "Senders":
        """Return an independent copy."""
        return Senders(list(self.batches), list(self.acknowledged))


class Run:
    """One run: its folder, its database, and its processes."""

    def __init__(self, folder: Path, dsn: str, senders: Senders) -> None:
        self.folder = folder
        self.dsn = dsn
        self.senders = senders
        self.configuration = config.load(folder / "config.yaml")
        self.root = self.configuration.edge.data_root
        self.journal = folder / "journal"
        self.trace = folder / "trace"
        self.answer_once: dict[str, int] = {}
        """What the peers answer first for a SOP Instance UID: a status, or ABORT."""
        self._children: list[Child] = []
        self._scp: Child | None = None
        self._connection = psycopg2.connect(dsn)
        self._connection.autocommit = True

    # ---- processes -----------------------------------------------------------------------------------

    def start(
        self, name: str, work: Callable[[], object], trap: Trap | None = None, *, dsn: str | None = None
    ) -> Child:
        """Start a program on this run's folder and database; with a trap it dies at the trap's point."""
        os.environ["DATABASE_URL"] = dsn or self.dsn
        os.environ[config.PATH_VARIABLE] = str(self.folder / "config.yaml")

        def trapped() -> None:
            if trap is not None:
                trap.set()
            work()

        child = Child(trapped, self.folder / f"{name}.out")
        self._children.append(child)
        return child

    def trap(self, at: Point | None) -> Trap:
        """Return a trap that counts points into this run's trace."""
        return Trap(self.trace, at)

    def serve(self, trap: Trap | None = None, *, away: bool = False) -> Child:
        """Start the SCP; return when it listens or has died. With `away` it cannot reach PostgreSQL."""
        port = self.configuration.edge.port
        # A receiver that was killed in a flush holds the port until the flush returns.
        wait_until(lambda: layout.is_free(port), READY_SECONDS, "the port of the SCP to be free")
        listening = self._listening()
        dsn = make_dsn(self.dsn, port=NOBODY_LISTENS) if away else None
        child = self._scp = self.start("scp", scp, trap, dsn=dsn)
        wait_until(lambda: child.ended() or self._listening() > listening, READY_SECONDS, "the SCP to listen")
        wait_until(
            lambda: child.ended() or (self.root / SEEN).exists(),
            READY_SECONDS,
            "spool and database to be paired",
        )
        return child

    def died(self) -> bool:
        """Tell whether the SCP has died."""
        return self._scp is not None and self._scp.ended()

    def kill(self) -> None:
        """Kill the SCP."""
        assert self._scp is not None, "serve comes first"
        self._scp.kill()

    def unregistered(self) -> list[Path]:
        """Return the `.part` links, without those of receptions that PostgreSQL refused."""
        return [path for path in self.files(SUFFIX) if path.parent.name != REFUSED]

    def await_registered(self) -> None:
        """Wait until all that was received is registered, or until the SCP has died."""
        wait_until(
            lambda: self.died() or not self.unregistered(),
            REGISTER_SECONDS,
            "all to be registered",
            every=0.01,
        )

    def _listening(self) -> int:
        return self.logged("listening")

    def logged(self, outcome: str) -> int:
        """Return how many lines of the gateway's log have that outcome."""
        path = self.configuration.edge.log_path
        return path.read_bytes().count(f'"{outcome}"'.encode()) if path.exists() else 0

    def work(self, *queues: str, threads: int = 4, trap: Trap | None = None) -> Child:
        """Start actors of these queues."""
        return self.start("actors", actors(queues, threads), trap)

    def peers(self, *, pacs: bool = True) -> None:
        """Start the workers and, if wanted, the PACS; return when they listen."""
        forwarder = self.configuration.forwarder
        ports = tuple(worker.port for worker in forwarder.all_workers)
        self._listen("workers", ports)
        if pacs:
            self._listen("pacs", (forwarder.orthanc.port,))

    def pacs(self) -> None:
        """Start the PACS; return when it listens."""
        self._listen("pacs", (self.configuration.forwarder.orthanc.port,))

    def _listen(self, name: str, ports: tuple[int, ...]) -> None:
        ready = self.folder / f"{name}.ready"
        child = self.start(name, peers(ports, self.journal, ready, self.answer_once))
        wait_until(lambda: ready.exists() or child.ended(), READY_SECONDS, f"{name} to listen")
        assert not child.ended(), child.text()

    def close(self) -> None:
        """End all its processes."""
        for child in self._children:
            child.kill()
        self._connection.close()

    def output(self) -> str:
        """Return the end of what each printed."""
        return "\n".join(f"--- {child.output.name}\n{child.text()[-1500:]}" for child in self._children)

    # ---- sending and asking --------------------------------------------------------------------------

    def send(self, *, steadily: bool = True) -> bool:
        """Send everything not acknowledged yet; return False if one of the senders was cut off.

        `steadily`: send the next instance when the one before is registered, so that each run passes its
        points in the same order.
        """
        while self.senders.batches:
            calling, _ = self.senders.batches[0]
            if left := self.send_batch(self.senders.batches[0], steadily=steadily):
                self.senders.batches[0] = (calling, left)
                return False
            self.senders.batches.pop(0)
        return True

    def send_batch(self, batch: Batch, *, steadily: bool = False) -> list[Instance]:
        """Send it over one association, from any thread; return the part that was not acknowledged."""
        calling, instances = batch
        edge = self.configuration.edge
        peer = PeerAddress(
            "127.0.0.1", edge.port, edge.ae_title, timeout_seconds=15, connect_timeout_seconds=5
        )
        contexts = list({instance.context: None for instance in instances})
        left = list(instances)
        with (
            suppress(PeerError),
            associate(peer, calling_ae_title=calling, contexts=contexts) as open_one,
        ):
            while left:
                status, comment = store(open_one, left[0])
                assert status == 0, f"0x{status:04X} {comment}"
                self.senders.acknowledged.append(left.pop(0))
                if steadily:
                    self.await_registered()
        return left

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    def one(self, sql: str, *parameters: object) -> Any:
        """Return the only value of a query."""
        [(value,)] = self.rows(sql, *parameters)
        return value

    def run(self, sql: str, *parameters: object) -> int:
        """Run a statement; return the number of rows that it changed."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.rowcount

    def files(self, suffix: str = ".dcm") -> Iterator[Path]:
        """Return the files of the spool; folders may vanish meanwhile."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.endswith(suffix):
                    yield Path(folder, name)


@dataclass(frozen=True)
class Prepared:
    """A folder and a database that runs are copied from."""

    folder: Path
    database: str
    senders: Senders


class Environment:
    """The parts that all runs share, on a running PostgreSQL; `close` removes them."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres) -> None:
        self.folder = folder
        self.postgres = postgres
        self._numbers = itertools.count(1)
        self._databases = {EMPTY}
        postgres.create_database(EMPTY)
        migrate(postgres.dsn(EMPTY))
        content = layout.configuration(layout.choose_ports(well_known=False), CHANGES)
        content["forwarder"]["workers"] = content["forwarder"]["workers"][:WORKERS]
        path = layout.write(folder / "empty", content)
        pair(config.load(path).edge.data_root, postgres.dsn(EMPTY))
        self.empty = Prepared(folder / "empty", EMPTY, Senders())
        _copy(folder / "empty", folder / "units")
        workers = content["forwarder"].pop("workers")
        content["forwarder"]["applications"] = {APPLICATION: {**UNITS, "workers": workers}}
        (folder / "units" / "config.yaml").unlink()
        layout.write(folder / "units", content)
        self.units = Prepared(folder / "units", EMPTY, Senders())
        """An edge whose two workers are the replicas of an application that gets whole series."""

    def begin(self, prepared: Prepared, name: str | None = None) -> Run:
        """Begin a new run on a copy of what was prepared."""
        name = f"{name or 'run'}_{next(self._numbers)}"
        folder = self.folder / name
        _copy(prepared.folder, folder)
        self._databases.add(name)
        self.postgres.create_database(name, template=prepared.database)
        return Run(folder, self.postgres.dsn(name), prepared.senders.copy())

    def keep(self, run: Run) -> Prepared:
        """End the run; other runs may begin from its final state."""
        run.close()
        for name in ("scp.out", "actors.out", "workers.ready", "pacs.ready"):
            (run.folder / name).unlink(missing_ok=True)
        return Prepared(run.folder, run.folder.name, run.senders)

    def drop(self, run: Run) -> None:
        """End the run and delete it."""
        run.close()
        shutil.rmtree(run.folder)
        self.postgres.drop_database(run.folder.name)
        self._databases.discard(run.folder.name)

    def close(self) -> None:
        """Delete all databases and folders."""
        for name in self._databases:
            self.postgres.drop_database(name)
        shutil.rmtree(self.folder)


def pair(root: Path, dsn: str) -> None:
    """Pair spool and database, so that the SCP receives as soon as it listens; copies stay paired."""
    identity = SpoolIdentity(root)
    database = Database(dsn, application_name="crash points", size=1)
    identity.recognize(database)
    identity.mark(database)
    database.close()


def _copy(source: Path, target: Path) -> None:
    """Copy a folder with its hard links: a `.part` link and the final name are one file."""
    subprocess.run(["cp", "--archive", str(source), str(target)], check=True)
