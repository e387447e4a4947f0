"""A healthy edge without its processes: their rows, locks and connections, and peers that answer."""

import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg2
from typer.testing import CliRunner

from cli.main import build
from gateway.database.tables import processes, refusals, sweeps
from gateway.database.tables.processes import Beat, ProcessKind
from gateway.database.tables.refusals import RefusalRow
from gateway.diagnosis.examine import Examined, examine
from gateway.diagnosis.finding import Finding
from gateway.domain.refusal import KIND_OF, Reason
from gateway.domain.routing import Route
from support.edge_setup import EdgeSetup
from support.forwarding import Forwarding, forwarding, pacs_of, workers_of
from support.peers import Peer, peer

_COMMAND = re.compile(r"`mini-pacs ([^`]+)`")
_BACKEND = re.compile(r"pg_terminate_backend\((\d+)\)")


class HealthyEdge:
    """Everything that a diagnosis examines, without a problem."""

    def __init__(self, core: Forwarding, stack: ExitStack) -> None:
        self.core = core
        self.edge: EdgeSetup = core.edge
        self.configuration = core.edge.configuration
        self.dsn = core.edge.dsn
        self._stack = stack
        self._actors: dict[str, Any] = {}
        self.pacs = stack.enter_context(pacs_of(core))
        self.workers = stack.enter_context(workers_of(core))
        self.port: Peer = stack.enter_context(peer(self.configuration.edge.port))
        self.start_receiver()
        for queue in (*Route, "sweep"):
            self.start_actors(queue)
        self.sweep()

    # ---- processes -----------------------------------------------------------------------------------

    def session(self, application: str = "psql", dsn: str = "") -> Any:
        """Open a session of PostgreSQL under that name; it is closed at the end."""
        connection = psycopg2.connect(dsn or self.dsn, application_name=application)
        self._stack.callback(connection.close)
        return connection

    def start_receiver(self) -> None:
        """Connect as a receiver does."""
        self.receiver = self.session("mini-pacs receiver")

    def start_actors(self, queue: str) -> None:
        """Register an actor process of that queue, with its lock."""
        consumer = secrets.randbits(62)
        connection = self.session(f"mini-pacs actors-{queue}")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (consumer,))
            cursor.execute(
                "INSERT INTO dramatiq.consumers (id, host, pid, queues, threads)"
                " VALUES (%s, 'here', 1, %s, 4)",
                (consumer, [str(queue)]),
            )
        self._actors[str(queue)] = connection

    def stop_actors(self, queue: str) -> None:
        """End the actor process of that queue."""
        self._actors.pop(queue).close()

    def beat(self, kind: ProcessKind, pid: int, **fields: Any) -> None:
        """Write the row of a process, as its heartbeat does; the pool keeps the connection."""
        fields = {"serves": "all", "age": timedelta(minutes=1), **fields}
        row = Beat(
            id=str(uuid4()), kind=kind, host="here", pid=pid, os_user="pacs", version="0.3.0", **fields
        )
        with self.edge.database.statement() as session:
            processes.beat(session, row)

    def forget_processes(self) -> None:
        """Delete the rows of all processes."""
        self.edge.run("DELETE FROM processes")

    def refuse(
        self, reason: Reason, title: str, address: str, *, count: int = 1, called: str = "MINI_EDGE",
        detail: str | None = None,
    ) -> None:  # fmt: skip
        """Record that a peer was turned away just now."""
        now = datetime.now(UTC)
        row = RefusalRow(KIND_OF[reason], reason, title, called, address, count, now, now, None, detail, None)
        with self.edge.database.statement() as session:
            refusals.add(session, [row], [])

    def sweep(self) -> None:
        """Record that the sweep ran now."""
        with self.edge.database.statement() as session:
            for verb in ("rescue", "reconcile", "expire", "purge"):
                sweeps.note(session, verb, {})

    # ---- configuration -------------------------------------------------------------------------------

    def configure_pacs(self, **changes: Any) -> None:
        """Change keys of the PACS for the diagnosis."""
        forwarder = self.configuration.forwarder
        pacs = forwarder.orthanc.model_copy(update=changes)
        forwarder = forwarder.model_copy(update={"orthanc": pacs})
        self.configuration = self.configuration.model_copy(update={"forwarder": forwarder})

    def configure_edge(self, **changes: Any) -> None:
        """Change keys of the edge for the diagnosis."""
        edge = self.configuration.edge.model_copy(update=changes)
        self.configuration = self.configuration.model_copy(update={"edge": edge})

    def restore(self) -> None:
        """Undo all changes of the configuration."""
        self.configuration = self.edge.configuration

    def configure_worker(self, **changes: Any) -> None:
        """Change keys of the first worker for the diagnosis."""
        forwarder = self.configuration.forwarder
        first, *others = forwarder.workers
        workers = (first.model_copy(update=changes), *others)
        forwarder = forwarder.model_copy(update={"workers": workers})
        self.configuration = self.configuration.model_copy(update={"forwarder": forwarder})

    # ---- diagnosis -----------------------------------------------------------------------------------

    def examine(self) -> Examined:
        """Examine this edge, as `mini-pacs diagnose` and `status` do."""
        return examine(self.configuration, self.dsn)

    def apply(self, finding: Finding) -> None:
        """Type the first command that the remedy of a finding names."""
        backend = _BACKEND.search(finding.remedy)
        if backend is not None:
            self.edge.run("SELECT pg_terminate_backend(%(pid)s::int)", pid=int(backend[1]))
            return
        words = _COMMAND.findall(finding.remedy)[-1].split()
        result = CliRunner().invoke(build(words[0]), [*words, *(["--yes"] if "cancel" in words else [])])
        assert result.exit_code == 0, result.output


@contextmanager
def healthy_edge(edge: EdgeSetup) -> Iterator[HealthyEdge]:
    """Yield the edge for the length of the `with`."""
    with forwarding(edge) as core, ExitStack() as stack:
        yield HealthyEdge(core, stack)
