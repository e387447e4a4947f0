"""The lab: every process of the gateway with its neighbours, on one machine, in one folder.

PostgreSQL, then a PACS and five workers, then actors and scheduler, then the SCP; stopped in the reverse
order, so that whoever receives ends first. What the lab acknowledged survives the death of any of its
processes and of the lab itself: the next start on the same folder goes on.
"""

import os
import shutil
import sys
from pathlib import Path

from gateway import config
from gateway.errors import LabError
from gateway.lab import layout, pacs
from gateway.lab.postgres import DATABASE, EmbeddedPostgres
from gateway.lab.program import Program
from gateway.lab.supervisor import Supervisor
from gateway.store.migrate import migrate

RESTART_DELAY_MS = 500
"""Until Dramatiq starts anew after a child of it died (its own default is 3000)."""
FORK_TIMEOUT = ("--worker-fork-timeout", "2000")
"""Milliseconds until Dramatiq looks whether its children live that still boot (its own default is 30,000)."""


class Lab:
    """The lab in `folder`; a config.yaml that is there already is used as it is."""

    def __init__(
        self,
        folder: Path,
        *,
        well_known_ports: bool = False,
        actor_processes: int = 1,
        actor_threads: int = 8,
        worker_environment: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        ports = layout.choose_ports(well_known=well_known_ports)
        self.config_path = layout.write(self.folder, layout.configuration(ports))
        self.configuration = config.load(self.config_path)
        self.postgres = EmbeddedPostgres(self.folder / "postgres")
        self.pacs = pacs.choose(self.folder / "pacs", self.configuration, ports.pacs_http)
        self._actors = (str(actor_processes), str(actor_threads))
        self._worker_environment = worker_environment or {}
        self.supervisor: Supervisor | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to speak of this lab."""
        return {"MINI_PACS_CONFIG": str(self.config_path), "DATABASE_URL": self.postgres.dsn()}

    def start(self) -> Supervisor:
        """Everything is ready; nothing of it runs when this raises.

        Raises:
            LabError: something is missing, a port is taken, or a process does not become ready.
        """
        self._refuse_taken_ports()
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        self.postgres.prepare()
        self.supervisor = Supervisor(
            self.folder,
            [
                [self._postgres()],
                [self.pacs.program(), *self._workers()],
                self._actor_programs(),
                [self._scp()],
            ],
            # worker applications keep what they received in TMPDIR, also when they are killed
            environment={"TMPDIR": str(self.folder / "tmp")},
        )
        self.supervisor.start()
        return self.supervisor

    def stop(self) -> None:
        """Nothing of it runs; harmless when nothing does."""
        if self.supervisor is not None:
            self.supervisor.stop()

    def remove(self) -> None:
        """Stopped, and its files are gone."""
        self.stop()
        self.postgres.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- programs ------------------------------------------------------------------------------------

    def _postgres(self) -> Program:
        return Program(
            "postgres",
            tuple(self.postgres.command),
            user=self.postgres.user,
            ready=self.postgres.answers,
            afterwards=self._make_schema,
            stop_signal=self.postgres.STOP_SIGNAL,
        )

    def _make_schema(self) -> None:
        self.postgres.create_database(DATABASE)
        migrate(self.postgres.dsn())

    def _workers(self) -> list[Program]:
        edge = self.configuration.edge
        return [
            Program(
                worker.ae_title.lower(),
                (sys.executable, "-m", "worker_app"),
                {
                    "WORKER_AE_TITLE": worker.ae_title,
                    "WORKER_BIND_ADDRESS": layout.LOOPBACK,
                    "WORKER_PORT": str(worker.port),
                    "GATEWAY_HOST": layout.LOOPBACK,
                    "GATEWAY_PORT": str(edge.port),
                    "GATEWAY_AE_TITLE": edge.ae_title,
                    **self._worker_environment,
                },
                ready=_listens(worker.port),
            )
            for worker in self.configuration.forwarder.workers
        ]

    def _actor_programs(self) -> list[Program]:
        processes, threads = self._actors
        environment = {**self.environment, "dramatiq_restart_delay": str(RESTART_DELAY_MS)}
        counts = {"pacs": (processes, threads), "workers": (processes, threads), "sweep": ("1", "2")}
        actors = [
            Program(
                f"actors-{queue}",
                (_script("dramatiq"), "actors", "-p", p, "-t", t, "-Q", queue, *FORK_TIMEOUT),
                environment,
                ready_line="ready for action",
            )
            for queue, (p, t) in counts.items()
        ]
        return [*actors, Program("scheduler", (_script("periodiq"), "actors"), environment)]

    def _scp(self) -> Program:
        command = (sys.executable, "-m", "cli", "serve")
        return Program("edge", command, self.environment, ready=_listens(self.configuration.edge.port))

    def _refuse_taken_ports(self) -> None:
        edge = self.configuration.edge
        wanted = {"edge.port": edge.port, "forwarder.orthanc.port": self.configuration.forwarder.orthanc.port}
        wanted |= {f"port of {w.ae_title}": w.port for w in self.configuration.forwarder.workers}
        for name, port in wanted.items():
            if not layout.is_free(port) and not (self.folder / "lab.lock").exists():
                raise LabError(f"{name} {port} is taken by another program: change it in {self.config_path}")


def _listens(port: int) -> "layout.Check":
    return lambda: layout.is_listening(port)


def _script(name: str) -> str:
    """A command that was installed beside this interpreter."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
    if found is None:
        raise LabError(f"the command {name} is not installed: pip install mini-pacs-edge")
    return found
