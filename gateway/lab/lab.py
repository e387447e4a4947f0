"""The lab: every process of the gateway, with PostgreSQL, a PACS and workers, in one folder.

The order of the start: PostgreSQL; a PACS, further archives if any, and the workers; actors and scheduler;
the SCP. The lab is stopped in the reverse order, so that no instance is received any more when the others
end. No acknowledged instance is lost when a process or the lab itself dies: the next start in the same folder
continues. edge_programs.py has the commands of the edge and of the workers.
"""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

from gateway import config
from gateway.database.migrate import migrate
from gateway.database.pool import Database
from gateway.errors import LabError, UnknownSpoolError
from gateway.lab import layout, monitoring, pacs
from gateway.lab.claims import Claims
from gateway.lab.edge_programs import actors, console, scp, workers
from gateway.lab.folder_lock import LOCK, seize_folder
from gateway.lab.postgres import DATABASE, EmbeddedPostgres
from gateway.lab.program import Program
from gateway.lab.supervisor import Supervisor
from gateway.spool.identity import SpoolIdentity

DIFFERENCES = {"forwarder": {"worker_affinity": "study", "worker_max_outstanding": 32}}
"""Settings other than the defaults: one worker gets a whole study, so each series has one result series. It
returns nothing before a series is complete, so it may have a whole series outstanding."""

CONSOLE_PORT = 8080


class Lab:
    """The lab in `folder`. In an existing config.yaml it changes only ports that are taken."""

    def __init__(
        self,
        folder: Path,
        *,
        well_known_ports: bool = False,
        actor_processes: int = 1,
        actor_threads: int = 8,
        worker_environment: dict[str, str] | None = None,
        metrics: bool = False,
        console: bool = False,
    ) -> None:
        self.folder = folder.absolute()
        self._claims = Claims()
        self.config_path, self._pacs_http = self._write_configuration(well_known=well_known_ports)
        self.configuration = config.load(self.config_path)
        self.postgres = EmbeddedPostgres(self.folder / "postgres")
        self.pacs = pacs.choose(self.folder / "pacs", self.configuration, self._pacs_http)
        self.notices: list[str] = []
        """Messages for the user about this start; usually none."""
        self._actors = (actor_processes, actor_threads)
        self._worker_environment = worker_environment or {}
        self.monitoring: monitoring.MonitoringPorts | None = None
        """The ports of the monitoring; None without it."""
        if metrics:
            monitoring.require_programs()
            wanted = monitoring.WELL_KNOWN if well_known_ports else ()
            self.monitoring = monitoring.MonitoringPorts(*layout.free_ports(3, wanted, self._claims.take))
        self.console_port: int | None = None
        """The port of the console; None without it."""
        if console:
            usual = [CONSOLE_PORT] if well_known_ports else ()
            [self.console_port] = layout.free_ports(1, usual, self._claims.take)
        self.supervisor: Supervisor | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which a command uses this lab."""
        return {"MINI_PACS_CONFIG": str(self.config_path), "DATABASE_URL": self.postgres.dsn()}

    def start(self) -> Supervisor:
        """Start every process and wait until all are ready; if this raises, no process is left.

        Raises:
            LabError: something is missing, a lab runs in this folder, or a process does not become ready.
        """
        is_new = not any((self.folder / name).exists() for name in (LOCK, "data"))
        lock = seize_folder(self.folder)
        try:
            if is_new and self.postgres.place.is_elsewhere:
                self.postgres.remove()  # files of a deleted lab in the same folder
            self._replace_taken_ports()
            self._prepare(lock)
        except BaseException:
            lock.close()
            self._claims.release()
            raise
        assert self.supervisor is not None
        self.supervisor.start()
        return self.supervisor

    def _prepare(self, lock: IO[bytes]) -> None:
        if self.postgres.place.notice:
            self.notices.append(self.postgres.place.notice)
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        self.postgres.prepare()
        self.supervisor = Supervisor(
            self.folder,
            [
                [self._postgres()],
                [self.pacs.program(), *self._archives(), *self._workers()],
                self._actor_programs(),
                [scp(self.configuration, self.environment), *self._console(), *self._monitoring()],
            ],
            # Worker applications write received files to TMPDIR; killed ones leave them there.
            environment={"TMPDIR": str(self.folder / "tmp")},
            lock=lock,
        )

    def stop(self) -> None:
        """Stop every process; do nothing where none runs."""
        if self.supervisor is not None:
            self.supervisor.stop()
        self._claims.release()

    def remove(self) -> None:
        """Stop every process and delete the files.

        Raises:
            LabError: another process runs a lab in this folder.
        """
        self.stop()
        with seize_folder(self.folder):
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
        # So that the SCP receives as soon as it listens. It says itself what is wrong with an unknown pair.
        database = Database(self.postgres.dsn(), application_name="mini-pacs lab", size=1)
        identity = SpoolIdentity(self.configuration.edge.data_root)
        with suppress(UnknownSpoolError):
            identity.recognize(database)
            identity.mark(database)
        database.close()

    def _archives(self) -> list[Program]:
        return [one.program() for one in pacs.others(self.folder / "archives", self.configuration)]

    def _workers(self) -> list[Program]:
        return workers(self.configuration, self._worker_environment)

    def _actor_programs(self) -> list[Program]:
        return actors(self.configuration, self.environment, *self._actors)

    def _console(self) -> list[Program]:
        return [] if self.console_port is None else [console(self.console_port, self.environment)]

    @property
    def console_words(self) -> str:
        """What the console has printed since its last start: the link for the first account, if any."""
        return "" if self.supervisor is None else self.supervisor.words("console")

    def _monitoring(self) -> list[Program]:
        if self.monitoring is None:
            return []
        return monitoring.programs(self.folder / "monitoring", self.monitoring, self.environment)

    # ---- ports ---------------------------------------------------------------------------------------

    def _write_configuration(self, *, well_known: bool) -> tuple[Path, int]:
        """Write config.yaml where it is missing; return its path and the HTTP port of the PACS."""
        path = self.folder / "config.yaml"
        if path.exists():
            wanted = [layout.WELL_KNOWN_HTTP] if well_known else []
            return path, layout.free_ports(1, wanted, self._claims.take)[0]
        ports = layout.choose_ports(well_known=well_known, take=self._claims.take)
        return layout.write(self.folder, layout.configuration(ports, DIFFERENCES)), ports.pacs_http

    def _replace_taken_ports(self) -> None:
        """Claim every port; replace a taken one by a free one, in config.yaml too."""
        replaced: dict[layout.Key, int] = {}
        of_workers: dict[int, int] = {}
        for key, port in self._configured_ports().items():
            if "applications" in key and port in of_workers:  # a worker of two applications
                if of_workers[port] != port:
                    replaced[key] = of_workers[port]
                continue
            of_workers[port] = port
            if not self._claims.take(port):
                [replaced[key]] = layout.free_ports(1, take=self._claims.take)
                of_workers[port] = replaced[key]
                name = ".".join(str(step) for step in key)
                self.notices.append(
                    f"{name} {port} is taken by another program: now {replaced[key]} (in {self.config_path})"
                )
        absent = layout.replace_ports(self.config_path, replaced) if replaced else []
        if absent:
            names = " and ".join(".".join(str(step) for step in key) for key in absent)
            raise LabError(f"{names}: the default is taken by another program: set it in {self.config_path}")
        http_is_taken = not self._claims.take(self._pacs_http)
        if http_is_taken:
            [self._pacs_http] = layout.free_ports(1, take=self._claims.take)
        if replaced or http_is_taken:
            self.configuration = config.load(self.config_path)
            self.pacs = pacs.choose(self.folder / "pacs", self.configuration, self._pacs_http)

    def _configured_ports(self) -> dict[layout.Key, int]:
        edge, forwarder = self.configuration.edge, self.configuration.forwarder
        return {
            ("edge", "port"): edge.port,
            ("forwarder", "orthanc", "port"): forwarder.orthanc.port,
            **{("forwarder", "archives", i, "port"): a.port for i, a in enumerate(forwarder.archives)},
            **{("forwarder", "workers", i, "port"): w.port for i, w in enumerate(forwarder.workers)},
            **{
                ("forwarder", "applications", name, "workers", i, "port"): worker.port
                for name, application in forwarder.applications.items()
                for i, worker in enumerate(application.workers)
            },
        }
