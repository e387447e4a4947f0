"""Edges whose PostgreSQL is another than the edge needs: a standby, a policy, a damaged schema."""

import subprocess
import time
from collections.abc import Generator
from contextlib import suppress

import psycopg2

from proof.edges import sender
from proof.edges.database import end_sessions
from proof.edges.edge import broken
from proof.edges.lab import BIN, Lab, Setup
from proof.edges.machine import wait_for, wrong_clock
from proof.edges.pacs import recover
from proof.edges.postgres import OWNER, ROLE
from proof.edges.sender import NotAssociatedError

STRANGE = Setup("strange-database")
YESTERDAY = Setup("clock-of-tomorrow")


def _try_to_send(lab: Lab, count: int = 2) -> None:
    for _ in range(count):
        with suppress(RuntimeError, NotAssociatedError):
            sender.send(lab.port, [sender.synthetic()])


@broken(STRANGE, (r"PostgreSQL", r"standby|recovery"), (r"DATABASE_URL|primary|promote",))
def postgresql_is_a_standby(lab: Lab) -> Generator[None]:
    """After a fail-over the address of PostgreSQL leads to a standby."""
    signal = lab.folder / "postgres" / "cluster" / "standby.signal"
    lab.server.stop()
    signal.touch()
    lab.server.start()
    _try_to_send(lab)
    time.sleep(5)
    yield
    lab.server.sql("SELECT pg_promote()", dbname="postgres")
    lab.sent_again()


@broken(STRANGE, (r"connection", r"\bedge\b", r"role|user"), (r"CONNECTION LIMIT",))
def role_with_too_few_connections(lab: Lab) -> Generator[None]:
    """Somebody limited the role of the edge to three connections."""
    lab.server.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT 3")
    end_sessions(lab)
    _try_to_send(lab)
    time.sleep(6)
    yield
    lab.server.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
    lab.sent_again()


@broken(STRANGE, (r"search_path", r"reports"), (r"RESET search_path",))
def role_with_another_search_path(lab: Lab) -> Generator[None]:
    """Somebody set the search_path of the role to a schema of reports."""
    lab.server.sql("CREATE SCHEMA IF NOT EXISTS reports")
    lab.server.sql(f"ALTER ROLE {ROLE} SET search_path = reports")
    end_sessions(lab)
    _try_to_send(lab, 4)
    time.sleep(6)
    yield
    lab.server.sql(f"ALTER ROLE {ROLE} RESET search_path")
    end_sessions(lab)
    lab.sent_again()


@broken(STRANGE, (r"block|lock|wait", r"\b{pid}\b", r"monthly-report"), (r"pg_terminate_backend\({pid}\)",))
def vacuum_full_waits_behind_a_report(lab: Lab) -> Generator[None]:
    """VACUUM FULL waits for an open report, and every process of the edge waits for VACUUM FULL."""
    with lab.server.session(user="postgres", application_name="monthly-report") as report:
        report.autocommit = False
        lab.server.execute(report, "SELECT count(*) FROM deliveries")
        lab.facts["pid"] = str(report.get_backend_pid())
        tool = ["-h", "127.0.0.1", "-p", str(lab.server.port), "-U", "postgres", "-d", "mini_pacs"]
        vacuum = lab.helper("psql", *tool, "-c", "VACUUM FULL deliveries", name="vacuum")
        time.sleep(1)
        lab.send(3)
        time.sleep(7)
        yield
        lab.server.sql("SELECT pg_terminate_backend(%s)", report.get_backend_pid())
        vacuum.wait(30)


@broken(
    STRANGE,
    (r"deliveries_one_per_route",),
    (r"ADD CONSTRAINT deliveries_one_per_route",),
)
def constraint_lost_by_a_restore(lab: Lab) -> Generator[None]:
    """A restore of the database lost a UNIQUE constraint, so no instance can be registered."""
    lab.server.sql("ALTER TABLE deliveries DROP CONSTRAINT deliveries_one_per_route")
    _try_to_send(lab, 3)
    time.sleep(8)
    yield
    lab.server.sql(
        "ALTER TABLE deliveries ADD CONSTRAINT deliveries_one_per_route UNIQUE (instance_id, route, target)"
    )
    lab.restart("serve")
    lab.sent_again()


@broken(
    STRANGE,
    (r"regist", r"refuse", r"audit trail is full"),
    (r"serve|trigger|cause|log",),
)
def trigger_of_somebody_refuses_rows(lab: Lab) -> Generator[None]:
    """A trigger that somebody added to the table of instances raises an error."""
    lab.server.sql(
        "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''the audit trail is full''; END'"
    )
    lab.server.sql("CREATE TRIGGER audit BEFORE INSERT ON instances FOR EACH ROW EXECUTE FUNCTION audit()")
    _try_to_send(lab, 3)
    time.sleep(10)
    yield
    lab.server.sql("DROP TRIGGER audit ON instances")
    lab.server.sql("DROP FUNCTION audit()")
    lab.restart("serve")
    lab.sent_again()


@broken(
    STRANGE,
    (r"queue pacs|pacs", r"no (actor )?process|another database|other database|waits at its start"),
    (r"dramatiq actors|DATABASE_URL",),
)
def actors_with_another_database(lab: Lab) -> Generator[None]:
    """The actor process of the PACS was started with the DATABASE_URL of the test system."""
    with suppress(psycopg2.Error):
        lab.server.sql(f"CREATE DATABASE test_system OWNER {OWNER}", dbname="postgres")
    other = lab.server.url(OWNER, "", "test_system")
    done = subprocess.run(
        [str(BIN / "mini-pacs"), "db", "migrate"], env=lab.environment | {"DATABASE_URL": other}, check=False
    )
    assert done.returncode == 0
    lab.stop("pacs")
    lab.start("pacs", environment={"DATABASE_URL": other})
    lab.send(3)
    time.sleep(6)
    yield
    lab.stop("pacs")
    lab.start("pacs")


@broken(
    STRANGE,
    (r"reset-db|epoch|older|restored|ended|regist|belong",),
    (r"reset-db|db rebuild",),
)
def reset_db_killed_halfway(lab: Lab) -> Generator[None]:
    """Somebody killed `mini-pacs reset-db` while it waited for a lock."""
    lab.send(2)
    with lab.server.session(user="postgres", application_name="analyst") as session:
        session.autocommit = False
        lab.server.execute(session, "LOCK TABLE dramatiq.queue IN SHARE MODE")
        reset = lab.helper(str(BIN / "mini-pacs"), "reset-db", "--yes", name="reset")
        time.sleep(4)
        lab.end(reset)
        session.rollback()
    _try_to_send(lab)
    time.sleep(5)
    yield
    lab.mini_pacs("reset-db", "--yes", role=OWNER)
    lab.sent_again()


@broken(
    YESTERDAY,
    (r"\bPACS\b|deliver|clock", r"future|clock|ahead|until|tomorrow"),
    (r"deliveries retry|destinations resume|clock",),
)
def clock_of_postgresql_was_a_day_ahead(lab: Lab) -> Generator[None]:
    """PostgreSQL's clock was a day ahead while the PACS was away; then both were mended."""
    lab.server.stop()
    lab.server.environment = wrong_clock(lab.folder, 86_400)
    lab.server.start()
    lab.pacs_peer("--store", "status", "--status", "A700")
    lab.send(3)
    time.sleep(6)
    lab.server.stop()
    lab.server.environment = {}
    lab.server.start()
    lab.pacs_ok()
    wait_for("an instance that the edge accepts", lambda: _sent(lab), 30, pause=1.0)
    time.sleep(8)
    yield
    lab.command("destinations", "resume", "PACS")
    lab.mini_pacs("deliveries", "retry", "--state", "pending", "--route", "pacs")
    recover(lab)


def _sent(lab: Lab) -> bool:
    try:
        lab.send(1)
    except (RuntimeError, NotAssociatedError):
        return False
    return True
