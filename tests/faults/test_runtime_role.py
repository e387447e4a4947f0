"""Processes under a role that owns nothing: all their work is allowed, and nothing else is."""

import itertools
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from importlib.resources import files

import psycopg2
import pytest
from conftest import Reconfigure
from psycopg2 import errors
from support.edge_setup import EdgeSetup
from support.launcher import Processes
from support.peers import peer
from support.synthetic_instances import result_of, study_of
from support.waiting import wait_until

from gateway.database import migrate as migrating
from gateway.database import roles
from gateway.database.migrate import Migration, migrate, migrations
from gateway.database.queries import load
from gateway.errors import DatabaseError, DatabaseRefusedError, SchemaError
from gateway.lab.postgres import EmbeddedPostgres

pytestmark = pytest.mark.guarantee("G7")
_numbers = itertools.count(1)


class Database:
    """A database whose owner is no superuser, and a role with the privileges that the processes need."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        number = next(_numbers)
        self._server = server
        self._name, self.owner, self.runtime = f"role_{number}", f"owner_{number}", f"runtime_{number}"
        for role in (self.owner, self.runtime):
            self.administer(f"CREATE ROLE {role} LOGIN")
        self.administer(f"CREATE DATABASE {self._name} OWNER {self.owner}")
        self.administer(f"REVOKE ALL ON DATABASE {self._name} FROM PUBLIC")
        self.administer(f"GRANT CONNECT ON DATABASE {self._name} TO {self.runtime}")

    def dsn(self, role: str) -> str:
        """Return the DSN of the database for that role."""
        return self._server.dsn(self._name).replace("mini_pacs@", f"{role}@")

    def administer(self, statement: str) -> None:
        """Run a statement as the superuser."""
        run(self._server.dsn("postgres"), statement)

    def drop(self) -> None:
        """Drop the database and its roles."""
        self._server.drop_database(self._name)
        for role in (self.owner, self.runtime):
            self.administer(f"DROP ROLE {role}")


def run(dsn: str, statement: str) -> None:
    """Run a statement on a connection of its own."""
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """Yield a database without its schema."""
    made = Database(postgres)
    yield made
    made.drop()


@pytest.fixture
def granted(database: Database) -> Database:
    """Return the database, migrated and granted by its owner, who is no superuser."""
    migrate(database.dsn(database.owner))
    roles.grant(database.dsn(database.owner), database.runtime)
    return database


def test_the_whole_flow_works_under_the_role(
    granted: Database,
    reconfigure: Reconfigure,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Receive, forward, correlate, expire, sweep, and every command of an operator are allowed."""
    monkeypatch.setenv("DATABASE_URL", granted.dsn(granted.runtime))
    fast = {"worker_timeout_seconds": 1, "max_redispatch": 1, "backoff_base_seconds": 0.3}
    edge = EdgeSetup(reconfigure({"forwarder": fast}), granted.dsn(granted.owner), processes)
    with ExitStack() as peers:
        forwarder = edge.configuration.forwarder
        pacs, *_ = [peers.enter_context(peer(d.port)) for d in edge.configuration.destinations]
        pacs.answer = lambda request: 0xA900 if request.sop_instance_uid == refused.sop_instance_uid else 0
        refused, *answered = study_of(3)
        edge.serve()
        edge.actors("pacs", "workers", "sweep")
        edge.start("periodiq", "actors")
        assert edge.send(refused, *answered) == [0, 0, 0]
        result = result_of(answered[0])
        wait_until(lambda: edge.rows("SELECT 1 FROM expected_results"), 20, "a worker to be asked")
        assert edge.send(result, calling=forwarder.workers[0].ae_title) == [0]
        pacs.wait_for(result.sop_instance_uid, *(one.sop_instance_uid for one in answered))
        wait_until(
            lambda: edge.rows("SELECT 1 FROM expected_results WHERE state = 'timed_out'"), 20, "a deadline"
        )
        edge.wait_state(refused, "dead", timeout=40)
        for words in (
            "status",
            f"status --study {refused.study_instance_uid}",
            "deliveries list",
            f"deliveries retry --study {refused.study_instance_uid}",
            f"deliveries resend --yes --route pacs --study {refused.study_instance_uid}",
            f"deliveries cancel --yes --study {refused.study_instance_uid}",
            "destinations pause ORTHANC",
            "destinations resume ORTHANC",
            "destinations list",
            "queue",
            "queue dead",
            "queue requeue --all",
            "sweep",
            "inject-fault io_delay_ms 1",
            "faults",
            "clear-faults",
            f"send --generate 2 --seq-from-db --port {edge.configuration.edge.port}",
        ):
            command = edge.start("mini-pacs", *words.split())
            assert command.wait(60) in {0, 1}, f"{words}: {command.text()}"
        edge.run("UPDATE instances SET received_at = received_at - interval '3 days'")
        edge.run("UPDATE deliveries SET settled_at = settled_at - interval '3 days'")
        edge.run("UPDATE expected_results SET state = 'timed_out' WHERE state = 'owed'")
        before = edge.one("SELECT count(*) FROM instances")
        purge = edge.start("mini-pacs", "sweep", "purge")
        assert purge.wait(60) == 0, purge.text()
        assert edge.one("SELECT count(*) FROM instances") < before
    edge.kill()
    texts = [process.text() for process in processes._all]
    assert not [line for line in edge.log() if "42501" in str(line) or "permission" in str(line)]
    assert not [text for text in texts if "42501" in text or "permission denied" in text]
    edge.close()


FILES = sorted(
    entry.name.removesuffix(".sql") for entry in files("gateway.database").joinpath("sql").iterdir()
)
OF_THE_OWNER = {"reset", "migrate"}
OF_THE_CONSOLE = "console"
"""Only the role of the console may read accounts and sessions."""
_PARAMETER = re.compile(r"%\((\w+)\)s")
_PLANNED = re.compile(r"\s*(--[^\n]*\n\s*)*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
_DURATIONS = {
    "grace",
    "wait",
    "lease",
    "window",
    "retention",
    "probe_wait",
    "result_wait",
    "duration",
    "delay",
}
_NUMBERS = {"threshold": 3}
"""Values for the planner: with NULL it would fail before the privileges are checked."""


@pytest.mark.parametrize("file", [name for name in FILES if name not in {*OF_THE_OWNER, OF_THE_CONSOLE}])
def test_every_statement_is_allowed_to_the_role(granted: Database, file: str) -> None:
    """EXPLAIN checks the privileges of a statement without running it."""
    explain(granted, file)


def test_the_accounts_are_for_the_role_of_the_console_only(granted: Database) -> None:
    """`db grant ROLE --console` gives them, `db grant ROLE` takes them back."""
    with pytest.raises(errors.InsufficientPrivilege):
        explain(granted, OF_THE_CONSOLE)
    roles.grant(granted.dsn(granted.owner), granted.runtime, console=True)
    explain(granted, OF_THE_CONSOLE)
    explain(granted, "deliveries")
    roles.grant(granted.dsn(granted.owner), granted.runtime)
    with pytest.raises(errors.InsufficientPrivilege):
        explain(granted, OF_THE_CONSOLE)


def explain(granted: Database, file: str) -> None:
    """Let PostgreSQL plan each statement of a file under the role."""
    connection = psycopg2.connect(granted.dsn(granted.runtime))
    try:
        with connection.cursor() as cursor:
            for query in load(file).values():
                if not _PLANNED.match(query.sql):
                    continue
                names = _PARAMETER.findall(query.sql)
                values = {name: timedelta(1) if name in _DURATIONS else _NUMBERS.get(name) for name in names}
                cursor.execute("EXPLAIN " + query.sql, values)
    finally:
        connection.close()


def test_a_batch_of_receptions_is_allowed_to_the_role(granted: Database) -> None:
    """EXPLAIN does not check what a function does inside, so the function is run."""
    run(
        granted.dsn(granted.runtime),
        "SELECT * FROM receive_instances_from("
        "ARRAY['1.2.3', '1.2.4'], ARRAY['1.2', '1.2'], ARRAY['1.3', '1.3'],"
        " ARRAY['1.4', '1.4'], ARRAY['1.5', '1.5'], array_fill(decode(repeat('00', 32), 'hex'), ARRAY[2]),"
        " ARRAY[1, 1], ARRAY['A', 'A'], ARRAY['B', 'B'], ARRAY['127.0.0.1', '127.0.0.1'],"
        " array_fill('original'::instance_kind, ARRAY[2]), ARRAY['a.dcm', 'b.dcm'], ARRAY['pacs', 'pacs'],"
        " ARRAY['forward_to_pacs', 'forward_to_pacs'], ARRAY[4, 4],"
        " ARRAY['sender', 'pacs'], 'forward_to_pacs', interval '1 s')",
    )


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE attempts",
        "DROP SCHEMA dramatiq CASCADE",
        "ALTER TABLE instances ADD COLUMN mine text",
        "ALTER TABLE deliveries DISABLE TRIGGER deliveries_transition",
        "TRUNCATE instances CASCADE",
        "CREATE TABLE mine (x int)",
        "CREATE TABLE dramatiq.mine (x int)",
        "CREATE TEMPORARY TABLE mine (x int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine SUPERUSER",
        "CREATE FUNCTION public.place_of(bigint) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "UPDATE attempts SET outcome = 'delivered'",
        "DELETE FROM attempts",
        "DELETE FROM deliveries",
        "DELETE FROM destinations",
        "DELETE FROM schema_migrations",
        "INSERT INTO schema_migrations (version, digest) VALUES ('9999_mine', '')",
        "COPY instances TO '/tmp/mine'",
        "COPY instances FROM PROGRAM 'id'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT * FROM pg_authid",
        "ALTER SYSTEM SET fsync TO off",
        "SET ROLE mini_pacs",
        "SET session_replication_role TO replica",
        "CREATE EXTENSION dblink",
        "SELECT setval('study_numbers', 1)",
    ],
)
def test_the_role_is_allowed_nothing_else(granted: Database, statement: str) -> None:
    """It cannot change the schema, delete the attempts, or reach the server's files."""
    with pytest.raises((errors.InsufficientPrivilege, errors.FeatureNotSupported)) as refused:
        run(granted.dsn(granted.runtime), statement)
    assert refused.value.pgcode == "42501" or "dblink" in str(refused.value)


def test_every_object_of_the_schema_is_granted_or_left_out_on_purpose(granted: Database) -> None:
    """A table that a migration adds must be named in roles.sql."""
    connection = psycopg2.connect(granted.dsn(granted.owner))
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT c.oid::regclass::text FROM pg_class c"
                " WHERE c.relnamespace IN ('public'::regnamespace, 'dramatiq'::regnamespace)"
                " AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relname NOT LIKE '%%_id_seq'"
                " AND c.relname NOT LIKE 'console%%'"
                " AND NOT has_table_privilege(%s, c.oid, 'SELECT')"
                " AND NOT (c.relkind = 'S' AND has_sequence_privilege(%s, c.oid, 'USAGE'))",
                (granted.runtime, granted.runtime),
            )
            assert cursor.fetchall() == []
    finally:
        connection.close()


def test_a_role_that_grants_cannot_restrict_is_refused(granted: Database) -> None:
    """Refused are a superuser, the owner, a member of the owner, and an unknown role."""
    owner = granted.dsn(granted.owner)
    with pytest.raises(SchemaError, match="no role nobody_here"):
        roles.grant(owner, "nobody_here")
    with pytest.raises(SchemaError, match="powers of its own"):
        roles.grant(owner, "mini_pacs")
    with pytest.raises(SchemaError, match="owns the schema"):
        roles.grant(owner, granted.owner)
    granted.administer(f"GRANT {granted.owner} TO {granted.runtime}")
    with pytest.raises(SchemaError, match="may become its owner"):
        roles.grant(owner, granted.runtime)
    with pytest.raises(DatabaseError):
        roles.grant(granted.dsn(granted.runtime), granted.runtime)


def test_only_the_owner_migrates_and_the_grants_are_renewed(
    granted: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role gets an error that says who may migrate; after the owner's migration it has its privileges."""
    word = f"m{secrets.token_hex(4)}"
    later = Migration("9000_later", f"ALTER TABLE sweeps ADD COLUMN {word} text")
    monkeypatch.setattr(migrating, "migrations", lambda: (*migrations(), later))
    with pytest.raises(DatabaseRefusedError, match=r"9000_later.*`mini-pacs db migrate` as its owner"):
        migrate(granted.dsn(granted.runtime))
    run(granted.dsn(granted.owner), f"REVOKE ALL ON sweeps FROM {granted.runtime}")
    assert migrate(granted.dsn(granted.owner)) == ["9000_later"]
    assert migrate(granted.dsn(granted.runtime)) == []
    run(granted.dsn(granted.runtime), f"SELECT {word} FROM sweeps")  # noqa: S608  ours


def test_only_the_owner_may_reset(
    granted: Database, reconfigure: Reconfigure, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process's role must not be able to delete everything; the command says who may."""
    monkeypatch.setenv("DATABASE_URL", granted.dsn(granted.runtime))
    reconfigure({})
    reset = processes.start("mini-pacs", "reset-db", "--yes")
    assert reset.wait(60) == 4
    assert "as the owner of the schema" in reset.text()
    grant = processes.start("mini-pacs", "db", "grant", granted.runtime)
    assert grant.wait(60) == 4
    monkeypatch.setenv("DATABASE_URL", granted.dsn(granted.owner))
    assert processes.start("mini-pacs", "db", "grant", granted.runtime).wait(60) == 0
    assert processes.start("mini-pacs", "reset-db", "--yes").wait(60) == 0
