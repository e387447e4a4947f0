"""A PostgreSQL server of its own for a lab: PostgreSQL's own programs, as the user postgres."""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812  a class of psycopg2

from proof.edges.machine import free_port, is_open, run, wait_for

DATABASE, OWNER, ROLE, PASSWORD = "mini_pacs", "owner", "edge", "edge-secret"
_HBA = """
local all all trust
host all postgres 127.0.0.1/32 trust
host all owner 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""
_SETTINGS = {
    "max_connections": "60",
    "superuser_reserved_connections": "3",
    "fsync": "off",
    "shared_buffers": "32MB",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "logging_collector": "off",
    "autovacuum": "off",
}


def binaries() -> Path:
    """Return the folder of the newest PostgreSQL of this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: path.parts[4])
    if not found:
        raise FileNotFoundError("PostgreSQL's server is not installed below /usr/lib/postgresql")
    return found[-1].parent


class Server:
    """One server, its database, and the roles of the lab."""

    def __init__(self, folder: Path, *, environment: dict[str, str] | None = None) -> None:
        """Make an empty server in `folder`; start it with `start`."""
        self.folder = folder
        self.port = free_port()
        self.settings = dict(_SETTINGS)
        self.environment = environment or {}
        user = pwd.getpwnam("postgres")
        self._as_postgres = [
            "setpriv",
            "--reuid",
            str(user.pw_uid),
            "--regid",
            str(user.pw_gid),
            "--clear-groups",
        ]
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, user.pw_uid, user.pw_gid)
        folder.chmod(0o700)
        data = folder / "cluster"
        run(
            *self._as_postgres,
            binaries() / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "--no-sync",
            "-A",
            "trust",
            "-E",
            "UTF8",
        )
        (data / "pg_hba.conf").write_text(_HBA)
        self._log = (folder / "postgres.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        options = [word for key, value in self.settings.items() for word in ("-c", f"{key}={value}")]
        self._process = subprocess.Popen(
            [
                *self._as_postgres,
                str(binaries() / "postgres"),
                "-D",
                str(self.folder / "cluster"),
                "-p",
                str(self.port),
                *options,
            ],
            env=os.environ | self.environment,
            cwd="/",
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        wait_for("PostgreSQL", self._answers, 30)

    def _answers(self) -> bool:
        if not is_open(self.port):
            return False
        try:
            self.connect(dbname="postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def create(self) -> None:
        """Create the database, its owner, and the role of the edge's processes."""
        with self.session(dbname="postgres") as admin:
            self.execute(admin, f"CREATE ROLE {OWNER} LOGIN")
            self.execute(admin, f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
            self.execute(admin, "CREATE ROLE report LOGIN PASSWORD 'report'")
            self.execute(admin, f"CREATE DATABASE {DATABASE} OWNER {OWNER}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it; SIGINT ends all connections at once."""
        if self._process is not None and self.is_running:
            self.freeze(going=True)
            self._process.send_signal(how)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(10)

    def freeze(self, *, going: bool = False) -> None:
        """Stop the postmaster and all its processes by SIGSTOP, or let them go on."""
        kind = signal.SIGCONT if going else signal.SIGSTOP
        children = subprocess.run(
            ["pgrep", "-P", str(self.pid)], capture_output=True, text=True, check=False
        ).stdout
        for pid in [self.pid, *map(int, children.split())]:
            try:
                os.kill(pid, kind)
            except ProcessLookupError:
                continue

    def url(self, role: str = ROLE, password: str = PASSWORD, database: str = DATABASE) -> str:
        """Return a URL for DATABASE_URL."""
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def connect(self, user: str = "postgres", dbname: str = DATABASE, **options: Any) -> Connection:
        """Open a session of a superuser, or of another role."""
        opened: Connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=user, dbname=dbname, connect_timeout=5, **options
        )
        return opened

    @contextmanager
    def session(self, **options: Any) -> Iterator[Connection]:
        """Open a session without transactions, and close it."""
        opened = self.connect(**options)
        opened.autocommit = True
        try:
            yield opened
        finally:
            opened.close()

    @staticmethod
    def execute(session: Connection, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows."""
        with session.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def sql(self, statement: str, *values: object, dbname: str = DATABASE) -> list[tuple[Any, ...]]:
        """Run a statement as a superuser, in a session of its own."""
        with self.session(dbname=dbname) as session:
            return self.execute(session, statement, *values)

    def set(self, key: str, value: str) -> None:
        """Change a setting that a reload takes."""
        self.sql(f"ALTER SYSTEM SET {key} = '{value}'")
        self.sql("SELECT pg_reload_conf()")
