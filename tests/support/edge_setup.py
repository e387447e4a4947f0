"""A real edge for a test: SCP, actors, the instances sent to it, and its rows and files."""

import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.database.session import Row
from gateway.database.wakeup import Wakeup
from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.requestor import associate
from gateway.register.unregistered import finished_links
from gateway.spool.identity import SpoolIdentity
from gateway.spool.marks import SEEN
from gateway.spool.partial import PARTIAL
from gateway.spool.places import ORPHANED
from gateway.spool.spool import Spool
from gateway.sweep.context import SweepContext
from gateway.sweep.reconcile import reconcile
from support.launcher import REPOSITORY, Process, Processes
from support.synthetic_instances import Instance
from support.waiting import wait_until

TESTS = Path(__file__).resolve().parents[1]
READY_SECONDS = 30.0
REGISTERED_SECONDS = 3.0


class EdgeSetup:
    """One database, one configuration, and the processes that use them."""

    def __init__(self, configuration: Configuration, dsn: str, processes: Processes) -> None:
        self.configuration = configuration
        self.dsn = dsn
        self.spool = Spool(configuration.edge.data_root)
        self.database = Database(dsn, application_name="test", deadline_seconds=60)
        self.identity = SpoolIdentity(configuration.edge.data_root)
        self._processes = processes
        self._started: list[Process] = []
        self.scp: Process
        """The SCP; set by `serve`."""

    # ---- processes -----------------------------------------------------------------------------------

    def start(self, *words: str | Path, name: str | None = None, **environment: str) -> Process:
        """Start a command; it ends with the test."""
        process = self._processes.start(*words, name=name, **environment)
        self._started.append(process)
        return process

    def serve(self, *command: str | Path, **environment: str) -> Process:
        """Start the SCP; return it when it listens. `command` replaces `mini-pacs serve`."""
        scp = self.start(*(command or ("mini-pacs", "serve")), **environment)

        def listens() -> bool:
            assert scp.popen.poll() is None, f"it ended with {scp.popen.returncode}: {scp.text()[-3000:]}"
            return bool(self.log(outcome="listening", pid=scp.pid))

        def receives() -> bool:
            receivers: int = self.log(outcome="listening", pid=scp.pid)[0]["count"]
            return len(children(scp.pid)) == receivers

        def is_paired() -> bool:
            return (self.spool.root / SEEN).exists()

        # its own log line: a predecessor that is ending may still accept connections
        wait_until(listens, READY_SECONDS, "the SCP to listen")
        wait_until(receives, READY_SECONDS, "the SCP to have forked its receivers")
        wait_until(is_paired, READY_SECONDS, "spool and database to be paired")
        self.scp = scp
        return scp

    def actors(self, *queues: str, threads: int = 4, polls: bool = True) -> list[Process]:
        """Start one actor process for each queue; return when they are ready.

        Without `polls` they run only what wakes them (`support.no_poll`).
        """
        module = "actors" if polls else "support.no_poll"
        environment = {} if polls else {"PYTHONPATH": f"{REPOSITORY}:{TESTS}"}
        started = [
            self.start("dramatiq", module, "-p", "1", "-t", str(threads), "-Q", queue, **environment)
            for queue in queues
        ]
        for process in started:
            process.wait_for_line("ready for action", READY_SECONDS)
        return started

    def kill(self) -> None:
        """Kill all processes, for tests that do not check how they stop."""
        for process in self._started:
            process.kill()

    def close(self) -> None:
        """Close the test's connections."""
        self.database.close()

    # ---- sending -------------------------------------------------------------------------------------

    def peer(self) -> PeerAddress:
        """Return the edge's address for senders."""
        edge = self.configuration.edge
        return PeerAddress(
            "127.0.0.1", edge.port, edge.ae_title, timeout_seconds=30, connect_timeout_seconds=10
        )

    @contextmanager
    def association(
        self, contexts: Iterable[ProposedContext], calling: str = "ORTHANC"
    ) -> Iterator[Association]:
        """Yield an association with the edge."""
        with associate(self.peer(), calling_ae_title=calling, contexts=list(contexts)) as association:
            yield association

    def send(self, *instances: Instance, calling: str = "ORTHANC") -> list[int]:
        """Send over one association; return the status of each instance."""
        with self.association({i.context: None for i in instances}, calling) as association:
            return [store(association, instance)[0] for instance in instances]

    def send_at_once(self, instances: Sequence[Instance], calling: str = "ORTHANC") -> list[int]:
        """Send each in its own thread over its own association; return the statuses."""
        statuses: list[int] = []
        barrier = threading.Barrier(len(instances))

        def send(instance: Instance) -> None:
            with self.association([instance.context], calling) as association:
                barrier.wait(30)
                statuses.append(store(association, instance)[0])

        threads = [threading.Thread(target=send, args=(instance,)) for instance in instances]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(statuses) == len(instances)
        return statuses

    # ---- looking -------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until what the running SCP has acknowledged is registered, as far as PostgreSQL answers."""
        if not self._serves():
            return
        waiting = {entry.path for entry in finished_links(self.spool.root / PARTIAL)}
        changed = time.monotonic()
        while waiting and self._serves():
            left = {path for path in waiting if Path(path).exists()}
            if left != waiting:
                waiting, changed = left, time.monotonic()
            elif time.monotonic() - changed > REGISTERED_SECONDS:
                return  # PostgreSQL does not answer, or another version has to come first
            time.sleep(0.005)

    def _serves(self) -> bool:
        return hasattr(self, "scp") and self.scp.popen.poll() is None

    def rows(self, sql: str, **parameters: object) -> list[Row]:
        """Return the rows of a query, once what was acknowledged is registered."""
        self.settle()
        with self.database.statement() as session:
            return session.all(Query("test", sql), **parameters)

    def one(self, sql: str, **parameters: object) -> Any:
        """Return the only value of a query."""
        [row] = self.rows(sql, **parameters)
        return row[0]

    def run(self, sql: str, **parameters: object) -> int:
        """Run a statement; return the number of rows that it changed."""
        self.settle()
        with self.database.statement() as session:
            return session.run(Query("test", sql), **parameters)

    def delivery(self, instance: Instance, route: str = "pacs") -> dict[str, Any]:
        """Return the delivery of an instance (of its first version), with the columns that tests need."""
        columns = ("id", "state", "attempts", "last_error", "last_status", "destination", "redispatches")
        [row, *_] = self.rows(
            "SELECT d.id, d.state::text, d.attempts, d.last_error, d.last_status, d.destination,"
            " d.redispatches"
            " FROM deliveries d JOIN instances i ON i.id = d.instance_id"
            " WHERE i.sop_instance_uid = %(uid)s AND d.route = %(route)s::route ORDER BY d.id",
            uid=instance.sop_instance_uid,
            route=route,
        )
        return dict(zip(columns, row, strict=True))

    def wait_state(
        self, instance: Instance, state: str, *, route: str = "pacs", timeout: float = 15
    ) -> dict[str, Any]:
        """Wait until the delivery of an instance has that state; return the delivery."""

        def look() -> dict[str, Any] | None:
            delivery = self.delivery(instance, route)
            return delivery if delivery["state"] == state else None

        delivery = wait_until(look, timeout, f"the delivery to be {state}")
        assert delivery is not None
        return delivery

    def queued(self, queue: str | None = None) -> int:
        """Return how many messages wait or run."""
        return int(
            self.one(
                "SELECT count(*) FROM dramatiq.queue WHERE %(queue)s::text IS NULL OR queue_name = %(queue)s",
                queue=queue,
            )
        )

    def log(self, **fields: object) -> list[dict[str, Any]]:
        """Return the log lines that have these fields."""
        self.settle()
        path = self.configuration.edge.log_path
        if not path.exists():
            return []
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if all(line.get(name) == value for name, value in fields.items())]

    def wait_log(self, timeout: float = 10, **fields: object) -> dict[str, Any]:
        """Wait for a log line that has these fields; return it."""
        return wait_until(lambda: self.log(**fields), timeout, f"a log line with {fields}")[0]

    def files(self, *, partial: bool = False) -> dict[str, Path]:
        """Return the kept files by `<place>/<name>`; on request also those of live or dead receivers."""
        self.settle()
        root = self.configuration.edge.data_root
        return {
            f"{path.relative_to(root).parts[0]}/{path.name}": path
            for path in sorted(root.rglob("*"))
            if path.is_file()
            and (path.suffix == ".dcm" or (partial and path.suffix == ".part"))
            and (partial or path.relative_to(root).parts[0] != PARTIAL)
        }

    def orphans(self) -> list[str]:
        """Return the names of the files in orphaned/."""
        return [path.name for path in (self.configuration.edge.data_root / ORPHANED).rglob("*.dcm")]

    def heal(self) -> None:
        """Run the sweep as if all grace periods were over."""
        wakeup = Wakeup(self.dsn)
        sweeping = SweepContext(
            self.configuration, self.database, Spool(self.configuration.edge.data_root), wakeup
        )
        try:
            # losing a second link changes the file's change time: repeat until nothing is found
            wait_until(
                lambda: not any(reconcile(sweeping).values()) and not any(reconcile(sweeping).values()),
                10,
                "nothing to be left to mend",
            )
        finally:
            wakeup.close()

    def check_ledger(self, acknowledged: Iterable[Instance]) -> None:
        """Check G1: each instance has a row, deliveries, and its bytes on the disk."""
        for instance in acknowledged:
            [(study, name, size, owed)] = self.rows(
                "SELECT i.study_instance_uid, i.file_name, i.data_set_size,"
                " (SELECT count(*) FROM deliveries d WHERE d.instance_id = i.id)"
                " FROM instances i WHERE i.sop_instance_uid = %(uid)s"
                " AND encode(i.sha256, 'hex') = %(digest)s",
                uid=instance.sop_instance_uid,
                digest=instance.digest,
            )
            assert owed >= 1
            assert size == len(instance.data_set())
            root = self.configuration.edge.data_root
            [path] = [
                p for p in root.rglob(name) if p.parent.name == study and p.parent.parent.name != PARTIAL
            ]
            assert path.read_bytes().endswith(instance.data_set())


def store(association: Association, instance: Instance, *, priority: int = 0) -> tuple[int, str]:
    """Return status and comment of one C-STORE."""
    return association.store(
        instance.context, instance.sop_instance_uid, [instance.data_set()], priority=priority
    )


def children(pid: int) -> list[int]:
    """Return the live child processes of this one."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
