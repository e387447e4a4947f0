"""Passwords appear in no log line, output or process list, whatever error they cause."""

import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Reconfigure
from support import certificates
from support.edge_setup import EdgeSetup
from support.launcher import Processes
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.database.migrate import migrate
from gateway.lab.layout import free_ports
from gateway.lab.postgres import DATABASE, EmbeddedPostgres

pytestmark = pytest.mark.guarantee("G7")

PROCESSES = (
    ("mini-pacs", "serve"),
    ("dramatiq", "actors", "-p", "1", "-t", "2", "-Q", "pacs"),
    ("dramatiq", "actors", "-p", "1", "-t", "2", "-Q", "workers"),
    ("dramatiq", "actors", "-p", "1", "-t", "2", "-Q", "sweep"),
    ("periodiq", "actors"),
)


class Secrets:
    """The secrets, and the files and outputs that must not contain them."""

    def __init__(self, *values: str) -> None:
        self.values = values

    def check(self, *files: Path) -> None:
        """Check that no secret is in a file, or on a command line of this machine."""
        texts = {str(path): path.read_bytes() for path in files}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # the process has ended
                texts[str(path)] = path.read_bytes()
        for name, text in texts.items():
            for value in self.values:
                assert value.encode() not in text, f"a secret stands in {name}"


@pytest.fixture
def server(own_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> EmbeddedPostgres:
    """Return a PostgreSQL on TCP that requires a password; the variables POSTGRES_* point to it."""
    [port] = free_ports(1)
    own_postgres._port = port
    own_postgres.start()
    migrate(own_postgres.dsn())
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("POSTGRES_HOST", "127.0.0.1")
    monkeypatch.setenv("POSTGRES_PORT", str(port))
    monkeypatch.setenv("POSTGRES_DB", DATABASE)
    return own_postgres


@pytest.fixture
def edge(server: EmbeddedPostgres, reconfigure: Reconfigure, processes: Processes) -> Iterator[EdgeSetup]:
    """Yield an edge on that server; none of its processes is started."""
    edge = EdgeSetup(reconfigure({}), server.dsn(), processes)
    yield edge
    edge.kill()
    edge.close()


def password_of(server: EmbeddedPostgres) -> str:
    """Return the password of its role."""
    return server.data.with_name(f"{server.data.name}.password").read_text(encoding="ascii")


def outputs(edge: EdgeSetup, folder: Path) -> list[Path]:
    """Return the log, and the output of every process of the test."""
    return [*edge.configuration.edge.log_path.parent.glob("*"), *(folder / "output").glob("*.out")]


def test_a_password_appears_nowhere_while_postgresql_stops_and_starts(
    server: EmbeddedPostgres,
    edge: EdgeSetup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every process works, loses its connections, waits and works again; a command fails."""
    password = password_of(server)
    monkeypatch.setenv("POSTGRES_PASSWORD", password)
    hidden = Secrets(password)
    edge.serve()
    for words in PROCESSES[1:]:
        edge.start(*words)
    wait_until(lambda: len(edge.log(outcome="actors_ready")) == 3, 30, "the actors")
    assert edge.send(Instance()) == [0]
    hidden.check(*outputs(edge, tmp_path))
    server.kill()
    assert edge.send(Instance()) == [0]
    status = edge.start("mini-pacs", "status")
    assert status.wait(30) == 3
    edge.wait_log(stage="db", outcome="waiting")
    hidden.check(*outputs(edge, tmp_path))
    server.start()
    wait_until(lambda: edge.one("SELECT count(*) FROM instances") == 2, 20, "PostgreSQL to be used again")
    hidden.check(*outputs(edge, tmp_path))


@pytest.mark.parametrize("by_url", [False, True], ids=["POSTGRES_PASSWORD", "DATABASE_URL"])
def test_a_wrong_password_is_not_printed(
    server: EmbeddedPostgres,
    edge: EdgeSetup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by_url: bool,  # noqa: FBT001  a column
) -> None:
    """PostgreSQL refuses it: the log says so and names only the user."""
    wrong = f"wrong-{secrets.token_hex(8)}"
    if by_url:
        monkeypatch.setenv("DATABASE_URL", server.dsn().replace(password_of(server), wrong))
    else:
        monkeypatch.setenv("POSTGRES_PASSWORD", wrong)
    started = [edge.start(*words) for words in PROCESSES]
    wait_until(lambda: len(edge.log(stage="db", outcome="waiting")) >= 4, 30, "them to be refused")
    assert "authentication failed" in edge.log(outcome="waiting")[0]["error"]
    status = edge.start("mini-pacs", "status")
    assert status.wait(30) == 3
    Secrets(wrong, password_of(server)).check(*outputs(edge, tmp_path))
    # the scheduler ends, so that its supervisor starts it again; the others wait until they are accepted
    assert all(process.popen.poll() is None for process in started[:-1])


def test_an_invalid_database_url_is_not_printed(
    edge_folder: Path, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process refuses to start, with a message that holds no part of it."""
    secret = f"p{secrets.token_hex(8)}"
    monkeypatch.setenv("DATABASE_URL", f"postgresql://edge:{secret}@{secret}@127.0.0.1:1/mini_pacs")
    words = [*PROCESSES, ("mini-pacs", "status"), ("mini-pacs", "db", "migrate"), ("mini-pacs", "queue")]
    started = [processes.start(*one) for one in words]
    for process in started:
        assert process.wait(60) != 0
        assert "DATABASE_URL is not shown" in process.text()
    Secrets(secret).check(*(tmp_path / "output").glob("*.out"))
    assert edge_folder.is_dir()


def test_an_encrypted_key_is_refused_without_a_prompt(
    reconfigure: Reconfigure, processes: Processes, tmp_path: Path, database_url: str
) -> None:
    """Encrypted keys are not supported, so there is no passphrase to keep secret.

    The file of a key is closed to other users instead.
    """
    pair = certificates.make(tmp_path / "certificates").edge
    locked = tmp_path / "locked.key"
    secret = secrets.token_hex(8)
    certificates.lock(pair.key, locked, secret)
    tls = {"certificate": str(pair.certificate), "key": str(locked), "client_certificate": "none"}
    reconfigure({"edge": {"tls": tls}})
    scp = processes.start("mini-pacs", "serve")
    assert scp.wait(30) == 2
    assert "the key without a password" in scp.text()
    Secrets(secret).check(*(tmp_path / "output").glob("*.out"))
    assert database_url
