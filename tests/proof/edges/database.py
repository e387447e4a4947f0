"""Edges whose PostgreSQL is away, blocked, full, or another one."""

import time
from collections.abc import Generator
from contextlib import ExitStack, closing, suppress

import psycopg2

from proof.edges.edge import broken
from proof.edges.lab import Lab, Setup
from proof.edges.machine import run
from proof.edges.postgres import DATABASE, PASSWORD, ROLE, binaries
from proof.edges.sender import NotAssociatedError

DATABASE_LAB = Setup("database")
SMALL_DISK = Setup("small-disk", database_mb=220)
WRONG_CLOCK = Setup("wrong-clock", database_clock=90)


@broken(
    DATABASE_LAB,
    (r"PostgreSQL", r"127\.0\.0\.1:\d+", r"refused|cannot connect"),
    (r"start PostgreSQL|start it",),
)
def postgresql_stopped(lab: Lab) -> Generator[None]:
    """PostgreSQL was stopped."""
    lab.server.stop()
    lab.send(3)
    time.sleep(4)
    yield
    lab.server.start()


@broken(
    DATABASE_LAB,
    (r"PostgreSQL", r"127\.0\.0\.1:\d+", r"not answer|no answer|frozen|timed? ?out|hangs|is stopped"),
    (r"PostgreSQL|host|restart|kill -CONT",),
)
def postgresql_frozen(lab: Lab) -> Generator[None]:
    """PostgreSQL is stopped by SIGSTOP, as on a host whose disk hangs."""
    lab.server.freeze()
    lab.send(2)
    time.sleep(8)
    yield
    lab.server.freeze(going=True)


@broken(
    DATABASE_LAB,
    (r"PostgreSQL", r"password|login", r"user|role", r"\bedge\b"),
    (r"DATABASE_URL|password|role",),
)
def postgresql_refuses_the_login(lab: Lab) -> Generator[None]:
    """Somebody changed the password of the role, and ended its sessions."""
    lab.server.sql(f"ALTER ROLE {ROLE} PASSWORD 'another'")
    end_sessions(lab)
    time.sleep(5)
    yield
    lab.server.sql(f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'")
    lab.sent_again()


def end_sessions(lab: Lab) -> None:
    """End the sessions of the edge, so that new ones begin."""
    statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN (%s, 'owner')"
    lab.server.sql(statement, ROLE, dbname="postgres")


@broken(
    DATABASE_LAB,
    (r"PostgreSQL|database", r"\bmini_pacs\b", r"not exist|no database|missing|not there"),
    (r"DATABASE_URL|createdb|db rebuild|create",),
)
def database_missing(lab: Lab) -> Generator[None]:
    """The database was renamed."""
    lab.server.sql(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false", dbname="postgres")
    end_sessions(lab)
    time.sleep(0.5)
    lab.server.sql(f"ALTER DATABASE {DATABASE} RENAME TO elsewhere", dbname="postgres")
    time.sleep(5)
    yield
    lab.server.sql(f"ALTER DATABASE elsewhere RENAME TO {DATABASE}", dbname="postgres")
    lab.server.sql(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS true", dbname="postgres")
    lab.sent_again()


@broken(
    DATABASE_LAB, (r"block|lock|wait", r"\b{pid}\b", r"nightly-report"), (r"pg_terminate_backend\({pid}\)",)
)
def table_locked(lab: Lab) -> Generator[None]:
    """A forgotten session holds an exclusive lock on the table of deliveries."""
    with lab.server.session(user="postgres", application_name="nightly-report") as session:
        session.autocommit = False
        lab.server.execute(session, "LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")
        lab.facts["pid"] = str(session.get_backend_pid())
        lab.send(3)
        time.sleep(6)
        yield
        lab.server.sql("SELECT pg_terminate_backend(%s)", session.get_backend_pid())


@broken(
    DATABASE_LAB,
    (r"idle in transaction|block|wait", r"\b{pid}\b", r"analyst"),
    (r"pg_terminate_backend\({pid}\)",),
)
def rows_locked_by_an_idle_transaction(lab: Lab) -> Generator[None]:
    """Somebody locked all rows of deliveries in psql, and went to lunch."""
    lab.mini_pacs("destinations", "pause", "PACS")
    lab.send(3)
    with lab.server.session(user="postgres", application_name="analyst") as session:
        session.autocommit = False
        lab.server.execute(session, "SELECT * FROM deliveries FOR UPDATE")
        lab.facts["pid"] = str(session.get_backend_pid())
        lab.mini_pacs("destinations", "resume", "PACS")
        time.sleep(8)
        yield
        lab.server.sql("SELECT pg_terminate_backend(%s)", session.get_backend_pid())


@broken(
    DATABASE_LAB,
    (r"connections", r"60|57", r"report|dashboard"),
    (r"max_connections|pg_terminate_backend|dashboard|report",),
)
def connections_used_up(lab: Lab) -> Generator[None]:
    """A dashboard of the hospital uses up the connections of PostgreSQL."""
    with ExitStack() as held:
        with suppress(psycopg2.OperationalError):
            for _ in range(60):
                report = lab.server.connect(user="report", password="report", application_name="dashboard")  # noqa: S106
                held.enter_context(closing(report))
        lab.send(2)
        time.sleep(4)
        yield


@broken(DATABASE_LAB, (r"commit", r"synchronous|standby"), (r"synchronous_standby_names|standby",))
def commits_wait_for_a_standby(lab: Lab) -> Generator[None]:
    """PostgreSQL waits at each commit for a synchronous standby that does not exist."""
    lab.server.set("synchronous_standby_names", "ghost")
    time.sleep(1)
    lab.send(3)
    time.sleep(6)
    yield
    lab.server.sql("ALTER SYSTEM RESET synchronous_standby_names")
    lab.server.sql("SELECT pg_reload_conf()")


@broken(DATABASE_LAB, (r"read.only",), (r"default_transaction_read_only|read.only|primary",))
def database_is_read_only(lab: Lab) -> Generator[None]:
    """Somebody made the database read-only for a migration of the server."""
    lab.server.sql(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on", dbname="postgres")
    end_sessions(lab)
    with suppress(RuntimeError, NotAssociatedError):
        lab.send(2)
    time.sleep(6)
    yield
    lab.server.sql(f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only", dbname="postgres")
    end_sessions(lab)
    lab.sent_again()


@broken(
    DATABASE_LAB,
    (r"permission|privilege|may not read", r"\bedge\b", r"deliveries|table"),
    (r"mini-pacs db grant edge",),
)
def privileges_revoked(lab: Lab) -> Generator[None]:
    """Somebody tidied up the privileges of the role."""
    lab.server.sql(f"REVOKE ALL ON deliveries FROM {ROLE}")
    with suppress(RuntimeError, NotAssociatedError):
        lab.send(2)
    time.sleep(5)
    yield
    lab.mini_pacs("db", "grant", ROLE, role="owner")
    lab.sent_again()


@broken(DATABASE_LAB, (r"older|restored|backup|not (know|belong)",), (r"mini-pacs db rebuild",))
def database_restored_from_a_backup(lab: Lab) -> Generator[None]:
    """PostgreSQL was restored from a backup that is older than the spool."""
    dump = lab.folder / "backup.dump"
    tools = ["-h", "127.0.0.1", "-p", str(lab.server.port), "-U", "postgres"]
    lab.settled()
    run(binaries() / "pg_dump", *tools, "-Fc", "-f", dump, DATABASE)
    time.sleep(12)  # s; spool and database exchange a mark every 10 s
    lab.send(2)
    time.sleep(1)
    lab.server.sql(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false", dbname="postgres")
    lab.server.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)", dbname="postgres")
    lab.server.sql(f"CREATE DATABASE {DATABASE} OWNER owner", dbname="postgres")
    run(binaries() / "pg_restore", *tools, "-d", DATABASE, dump)
    time.sleep(6)
    yield
    lab.mini_pacs("db", "rebuild", "--yes", role="owner")
    lab.sent_again()


@broken(SMALL_DISK, (r"PostgreSQL", r"disk", r"full|no space"), (r"space|disk",))
def disk_of_postgresql_full(lab: Lab) -> Generator[None]:
    """The disk of PostgreSQL is full."""
    filler = lab.folder / "postgres" / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
            file.flush()
    for _ in range(6):
        lab.send(5)
        time.sleep(1)
    yield
    filler.unlink()
    if not lab.server.is_running:
        lab.server.start()


@broken(
    WRONG_CLOCK, (r"clock", r"PostgreSQL", r"\b(89|90|91)\b|1 ?min"), (r"NTP|chrony|clock|timedatectl|time",)
)
def clock_of_postgresql_is_wrong(lab: Lab) -> Generator[None]:
    """The clock of PostgreSQL's host is 90 s ahead."""
    lab.send(1)
    yield
    lab.server.stop()
    lab.server.environment = {}
    lab.server.start()


@broken(
    DATABASE_LAB,
    (r"instances", r"table|relation|schema"),
    (r"db migrate|backup|restore|rebuild|schema|table",),
)
def table_missing(lab: Lab) -> Generator[None]:
    """Somebody renamed a table of the edge."""
    lab.server.sql("ALTER TABLE instances RENAME TO instances_old")
    with suppress(RuntimeError, NotAssociatedError):
        lab.send(1)
    time.sleep(5)
    yield
    lab.server.sql("ALTER TABLE instances_old RENAME TO instances")
    lab.sent_again()
