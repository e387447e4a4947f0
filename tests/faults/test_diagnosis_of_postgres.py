"""A PostgreSQL of its own: frozen, stopped, waiting for a standby. Each is named, with what mends it."""

import os
import re
import signal

import pytest
from support.waiting import wait_until

from gateway.config import Configuration
from gateway.database.connection import connect
from gateway.database.migrate import migrate
from gateway.diagnosis.examine import Examined, examine
from gateway.diagnosis.finding import Finding
from gateway.lab.postgres import EmbeddedPostgres

pytestmark = pytest.mark.guarantee("G2")
DATABASE = "edge"
SECONDS = 10.0


def about_postgres(seen: Examined) -> dict[str, Finding]:
    """Return the findings about PostgreSQL by their keys."""
    assert seen.seconds < SECONDS
    return {one.key: one for one in seen.findings if one.key.startswith("postgres.")}


def test_a_server_that_does_not_commit_is_named(
    own_postgres: EmbeddedPostgres, configuration: Configuration
) -> None:
    """Frozen, without its standby, stopped: one server, one after the other."""
    own_postgres.start()
    own_postgres.create_database(DATABASE)
    dsn = own_postgres.dsn(DATABASE)
    migrate(dsn)
    assert about_postgres(examine(configuration, dsn)) == {}

    assert own_postgres.process is not None
    own_postgres.process.send_signal(signal.SIGSTOP)
    frozen = about_postgres(examine(configuration, dsn))["postgres.frozen"]
    command = re.search(r"kill -CONT (\d+)", frozen.remedy)
    assert command is not None
    os.kill(int(command[1]), signal.SIGCONT)
    assert about_postgres(examine(configuration, dsn)) == {}

    connection = connect(dsn, application_name="test", deadline_seconds=10)
    with connection.cursor() as cursor:
        cursor.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        cursor.execute("SELECT pg_reload_conf()")
        hanging = wait_until(
            lambda: about_postgres(examine(configuration, dsn)).get("postgres.commits_hang"),
            10,
            "the finding",
        )
        assert hanging is not None
        assert "nobody" in hanging.what
        assert "ALTER SYSTEM SET synchronous_standby_names = ''" in hanging.remedy
        cursor.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        cursor.execute("SELECT pg_reload_conf()")
        wait_until(lambda: about_postgres(examine(configuration, dsn)) == {}, 10, "no finding")
    connection.close()

    own_postgres.stop()
    away = about_postgres(examine(configuration, dsn))["postgres.away"]
    assert f"database {DATABASE}" in away.what
    own_postgres.start()
    assert about_postgres(examine(configuration, dsn)) == {}
