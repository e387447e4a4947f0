"""The embedded PostgreSQL keeps committed rows through kills and restarts."""

import os
from pathlib import Path

import psycopg2
import pytest
from support.launcher import Processes
from support.waiting import wait_until

from gateway.lab import stray_processes
from gateway.lab.layout import free_ports
from gateway.lab.postgres import EmbeddedPostgres


def run(dsn: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement in a transaction of its own."""
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def test_committed_rows_survive_kill_9(own_postgres: EmbeddedPostgres) -> None:
    """G1 relies on this: an acknowledged commit is there after the postmaster was killed."""
    own_postgres.start()
    run(own_postgres.dsn(), "CREATE TABLE kept (n int)")
    for _ in range(3):
        run(own_postgres.dsn(), "INSERT INTO kept SELECT count(*) FROM kept")
        own_postgres.kill()
        own_postgres.start()
    assert run(own_postgres.dsn(), "SELECT n FROM kept ORDER BY n") == [(0,), (1,), (2,)]


def test_a_stopped_server_leaves_no_process(own_postgres: EmbeddedPostgres) -> None:
    """After `stop` neither the postmaster nor a child lives, and `start` works again."""
    own_postgres.start()
    assert own_postgres.process is not None
    family = [own_postgres.process.pid, *stray_processes.descendants(own_postgres.process.pid)]
    assert len(family) > 1
    own_postgres.stop()
    wait_until(
        lambda: not any(map(stray_processes.is_alive, family)), 5, "the family of the postmaster to end"
    )
    own_postgres.start()
    assert run(own_postgres.dsn(), "SELECT 1") == [(1,)]


def test_an_interrupted_initdb_is_repeated(own_postgres: EmbeddedPostgres) -> None:
    """A folder that `initdb` left incomplete is made again."""
    own_postgres.data.mkdir(parents=True)
    (own_postgres.data / "PG_VERSION").write_text("18\n", encoding="ascii")
    (own_postgres.data / "base").mkdir()
    own_postgres.start()
    assert run(own_postgres.dsn(), "SHOW fsync") == [("on",)]


@pytest.mark.parametrize("name", ["with a space", "comma, and space", "quote\" and '", "ä" * 45])
def test_a_folder_may_have_any_name(own_postgres: EmbeddedPostgres, name: str) -> None:
    """Blanks, commas, quotes and long paths work in PostgreSQL's lists and libpq's."""
    folder = own_postgres.data.parent / name
    folder.mkdir(mode=0o755)
    server = EmbeddedPostgres(folder / "postgres")
    try:
        server.start()
        assert run(server.dsn(), "SELECT 1") == [(1,)]
    finally:
        server.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends PostgreSQL to another user")
def test_a_closed_folder_gets_a_substitute_whatever_the_umask(tmp_path: Path) -> None:
    """As root, below a closed folder: the data are below /var/tmp, and `remove` deletes them."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    umask = os.umask(0o077)
    server = EmbeddedPostgres(closed / "postgres")
    try:
        assert server.place.is_elsewhere
        server.start()
        assert run(server.dsn(), "SELECT 1") == [(1,)]
    finally:
        server.remove()
        os.umask(umask)
    assert not server.data.parent.exists()


def test_it_listens_on_tcp_only_when_asked_and_with_a_password(tmp_path: Path) -> None:
    """With a port the DSN has a password, and a connection without it is refused."""
    [port] = free_ports(1)
    server = EmbeddedPostgres(tmp_path / "postgres", port=port)
    try:
        server.start()
        assert run(server.dsn(), "SELECT 1") == [(1,)]
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(f"postgresql://mini_pacs@127.0.0.1:{port}/mini_pacs")
    finally:
        server.remove()
    assert not server.data.exists()


def test_each_test_gets_a_migrated_database(database_url: str) -> None:
    """The fixture's database has the schema."""
    assert run(database_url, "SELECT count(*) FROM instances") == [(0,)]


def test_children_find_the_database_by_its_url(database_url: str, processes: Processes) -> None:
    """DATABASE_URL with its Unix socket works in the processes that a test starts."""
    assert database_url
    script = (
        "import os, psycopg2; print('pid', psycopg2.connect(os.environ['DATABASE_URL']).info.backend_pid)"
    )
    child = processes.start("python", "-c", script)
    child.wait_for_line(r"pid \d+")
    assert child.wait() == 0
