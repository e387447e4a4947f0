"""PostgreSQL: locked, away, read-only, of another schema, without privileges or connections."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta

import psycopg2
import pytest

from gateway.diagnosis import sessions
from support.broken_edges.case import Breaking, case
from support.healthy_edge import HealthyEdge
from support.waiting import wait_until


@case("postgres.blocked:", ("wait for a lock", "psql", "LOCK"), "pg_terminate_backend")
def postgres_blocked(edge: HealthyEdge, monkeypatch: pytest.MonkeyPatch) -> Breaking:
    """Somebody locked a table, and a process of the edge waits for it."""
    monkeypatch.setattr(sessions, "BLOCKED_SECONDS", 0.0)
    holder, waiter = edge.session(), edge.session("mini-pacs actors-pacs")
    holder.cursor().execute("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")

    def wait() -> None:
        with suppress(psycopg2.Error):
            waiter.cursor().execute("SELECT count(*) FROM deliveries")
            waiter.rollback()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    wait_until(lambda: edge.edge.one(waits), 10, "the session to wait")
    finding = yield
    edge.apply(finding)
    thread.join(30)
    waiter.close()


@case("postgres.blocked:", "has locked deliveries", "pg_terminate_backend")
def postgres_locked(edge: HealthyEdge, monkeypatch: pytest.MonkeyPatch) -> Breaking:
    """Somebody locked a table that no process needs now."""
    monkeypatch.setattr(sessions, "LOCK_LONG", timedelta())
    edge.session().cursor().execute("LOCK TABLE deliveries IN SHARE MODE")
    finding = yield
    edge.apply(finding)


@case("postgres.idle:", ("idle", "psql"), ("pg_terminate_backend", "idle_in_transaction_session_timeout"))
def postgres_idle(edge: HealthyEdge, monkeypatch: pytest.MonkeyPatch) -> Breaking:
    """Somebody forgot a transaction."""
    monkeypatch.setattr(sessions, "IDLE_LONG", timedelta())
    edge.session().cursor().execute("SELECT count(*) FROM instances")
    finding = yield
    edge.apply(finding)


@case("postgres.read_only", "default_transaction_read_only", "RESET default_transaction_read_only")
def postgres_read_only(edge: HealthyEdge) -> Breaking:
    """The database was set read-only."""
    name = psycopg2.extensions.parse_dsn(edge.dsn)["dbname"]
    edge.edge.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    yield
    edge.edge.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")


@case("postgres.schema", ("not that of this version", "lacks"), "")
def postgres_old_schema(edge: HealthyEdge) -> Breaking:
    """A migration is missing."""
    last = edge.edge.rows(
        "SELECT version, digest, additive FROM schema_migrations ORDER BY version DESC LIMIT 1"
    )
    edge.edge.run("DELETE FROM schema_migrations WHERE version = %(version)s", version=last[0][0])
    yield
    edge.edge.run(
        "INSERT INTO schema_migrations (version, digest, additive) VALUES (%(v)s, %(d)s, %(a)s)",
        v=last[0][0],
        d=last[0][1],
        a=last[0][2],
    )


@contextmanager
def another_dsn(edge: HealthyEdge, dsn: str) -> Iterator[None]:
    """Let the diagnosis use another DSN."""
    right, edge.dsn = edge.dsn, dsn
    yield
    edge.dsn = right


@case("postgres.away", ("127.0.0.1:1", "database none, user nobody"), "start PostgreSQL")
def postgres_not_started(edge: HealthyEdge) -> Breaking:
    """Nothing listens on its port."""
    with another_dsn(edge, "postgresql://nobody:secret@127.0.0.1:1/none"):
        yield


@case("postgres.away", ("no-such-host.invalid", "cannot be used"), "POSTGRES_HOST")
def postgres_without_address(edge: HealthyEdge) -> Breaking:
    """Its host name does not exist."""
    with another_dsn(edge, "postgresql://nobody:secret@no-such-host.invalid:5432/none"):
        yield


@case("postgres.away", "does not answer", "POSTGRES_HOST")
def postgres_hangs(edge: HealthyEdge) -> Breaking:
    """It accepts connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        with another_dsn(edge, f"postgresql://nobody:secret@127.0.0.1:{port}/none"):
            yield


@case("postgres.login", ("refuses the login", "does not exist"), "DATABASE_URL")
def postgres_refuses_the_login(edge: HealthyEdge) -> Breaking:
    """The role does not exist."""
    with another_dsn(edge, psycopg2.extensions.make_dsn(edge.dsn, user="nobody_knows")):
        yield


@case("postgres.privileges", "may not read", "db grant")
def postgres_without_privileges(edge: HealthyEdge) -> Breaking:
    """The role of the processes has no privileges yet."""
    edge.edge.run("DROP ROLE IF EXISTS without_privileges")
    edge.edge.run("CREATE ROLE without_privileges LOGIN")
    with another_dsn(edge, psycopg2.extensions.make_dsn(edge.dsn, user="without_privileges")):
        yield
    edge.edge.run("DROP ROLE without_privileges")


@case("postgres.search_path", ("search_path", "elsewhere", "schema public"), "RESET search_path")
def postgres_with_another_search_path(edge: HealthyEdge) -> Breaking:
    """The role looks for the tables in a schema that has none."""
    edge.edge.run("DROP ROLE IF EXISTS lost")
    edge.edge.run("CREATE ROLE lost LOGIN")
    edge.edge.run("ALTER ROLE lost SET search_path = elsewhere")
    with another_dsn(edge, psycopg2.extensions.make_dsn(edge.dsn, user="lost")):
        yield
    edge.edge.run("DROP ROLE lost")


@case("postgres.incomplete", "deliveries_one_per_route", "ALTER TABLE deliveries ADD CONSTRAINT")
def postgres_without_a_constraint(edge: HealthyEdge) -> Breaking:
    """A restore lost a constraint."""
    edge.edge.run("ALTER TABLE deliveries DROP CONSTRAINT deliveries_one_per_route")
    finding = yield
    edge.edge.run(finding.remedy.split("`")[1])


@case("postgres.connections", "no connection left", ("end the program", "ALTER ROLE few_connections"))
def postgres_without_connections(edge: HealthyEdge) -> Breaking:
    """Another program has all connections of the role."""
    edge.edge.run("DROP ROLE IF EXISTS few_connections")
    edge.edge.run("CREATE ROLE few_connections LOGIN CONNECTION LIMIT 1")
    dsn = psycopg2.extensions.make_dsn(edge.dsn, user="few_connections")
    holder = edge.session("report-tool", dsn)
    with another_dsn(edge, dsn):
        yield
    holder.close()
    gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'few_connections'"
    wait_until(lambda: edge.edge.one(gone), 10, "the session to end")
    edge.edge.run("DROP ROLE few_connections")
