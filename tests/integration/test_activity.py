"""The record of what operators did: complete, append-only, and spared by reset-db."""

import json

import pytest
from conftest import MakeEdge
from support.prepared_instances import PreparedInstances
from typer.testing import CliRunner

from cli import main
from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.database.roles import grant
from gateway.database.tables import activity
from gateway.database.tables.activity import Operator, Via, printable
from gateway.errors import DatabaseRefusedError

ANNA = Operator("anna", Via.CONSOLE, "192.0.2.1")
runner = CliRunner()


def run(*words: str, code: int = 0) -> str:
    """Run a command; return what it printed."""
    done = runner.invoke(main.build(words[0]), list(words))
    assert done.exit_code == code, done.output
    return done.output


def recorded() -> list[tuple[str, str, str, int | None]]:
    """Return verb, target, via and count of each action, oldest first."""
    items = json.loads(run("activity", "--json"))["items"]
    return [(one["verb"], one["target"], one["via"], one["count"]) for one in reversed(items)]


def test_commands_that_change_something_are_recorded(make_edge: MakeEdge) -> None:
    """Who, from where, what, to what, how many. A command that changes nothing leaves no row."""
    edge = make_edge()
    run("destinations", "pause", "ORTHANC")
    run("destinations", "pause", "ORTHANC")
    run("destinations", "resume", "ORTHANC")
    run("inject-fault", "io_delay_ms", "20", "--for", "60s")
    run("clear-faults")
    run("clear-faults")
    run("deliveries", "retry", "--all", code=1)
    run("sweep", "purge")
    run("console", "user", "add", "anna", "--by-proxy")
    run("reset-db", "--yes")
    assert recorded() == [
        ("pause", "ORTHANC", "cli", None),
        ("resume", "ORTHANC", "cli", None),
        ("inject-fault", "io_delay_ms", "cli", None),
        ("clear-faults", "io_delay_ms", "cli", 1),
        ("purge", "sweep", "cli", 0),
        ("add-account", "anna", "cli", None),
        ("reset-db", "0 instances, of which 0 deliveries are not done or dead", "cli", 0),
    ]
    with edge.database.statement() as session:
        [last] = activity.page(session, limit=1)
    assert last.who
    assert last.address


def test_a_change_of_deliveries_is_recorded_in_its_transaction(
    kept: PreparedInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the row cannot be written, nothing is changed."""
    kept.forward(kept.receive(1))
    monkeypatch.setattr(activity, "record", lambda *_, **__: 1 // 0)
    runner.invoke(main.build("deliveries"), ["deliveries", "resend", "--all", "--yes"])
    assert "delivered" in run("deliveries", "list", "--json")
    monkeypatch.undo()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE activity SET who = 'nobody'",
        "DELETE FROM activity",
        "TRUNCATE activity",
        "DELETE FROM activity WHERE false",
        "MERGE INTO activity a USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    ],
)
def test_even_the_owner_cannot_change_the_record(database_url: str, statement: str) -> None:
    """A trigger refuses it."""
    database = Database(database_url, application_name="test", size=1)
    with database.transaction() as session:
        activity.record(session, ANNA, "retry", "study 1.2", count=3, outcome="3 retried")
    with pytest.raises(DatabaseRefusedError, match="append-only"), database.transaction() as session:
        session.run(Query("test", statement))
    with database.statement() as session:
        assert [one.who for one in activity.page(session, limit=5)] == ["anna"]
    database.close()


def test_the_roles_may_only_add_to_the_record(database_url: str) -> None:
    """Neither the role of the processes nor that of the console may change it; only one reads accounts."""
    owner = Database(database_url, application_name="test", size=1)
    with owner.transaction() as session:
        names = ("record_edge", "record_console")
        for name in names:
            session.script(f"DROP ROLE IF EXISTS {name}; CREATE ROLE {name}")
    try:
        grant(database_url, names[0])
        grant(database_url, names[1], console=True)
        privilege = Query(
            "test",
            "SELECT string_agg(p, ' ' ORDER BY p) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', "
            "'TRUNCATE', 'TRIGGER']) AS p WHERE has_table_privilege(%(role)s, %(of)s, p)",
        )
        with owner.statement() as session:
            for name in names:
                assert session.value(privilege, role=name, of="activity") == "INSERT SELECT"
            assert session.value(privilege, role=names[0], of="console_users") is None
            assert session.value(privilege, role=names[0], of="console_sessions") is None
            assert (
                session.value(privilege, role=names[1], of="console_users") == "DELETE INSERT SELECT UPDATE"
            )
    finally:
        with owner.transaction() as session:
            for name in names:
                session.script(f"DROP OWNED BY {name}; DROP ROLE {name}")
        owner.close()


def test_texts_are_printable_and_bounded(database_url: str) -> None:
    """An AE title with control characters, or 10,000 letters, makes a readable row."""
    assert printable("a\x1b[2J\u202eb\n", 50) == "a [2J b "
    database = Database(database_url, application_name="test", size=1)
    with database.transaction() as session:
        activity.record(session, ANNA, "retry", "x" * 10_000, outcome="\x00")
        [row] = activity.page(session, limit=1)
    assert len(row.target) == 500
    database.close()
