"""Schema and code agree: states, transitions, statements, migrations."""

import itertools
import re
from collections import defaultdict
from contextlib import closing
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import psycopg2
import pytest
from conftest import MakeEdge
from support import released_data
from support.edge_setup import EdgeSetup
from support.forwarding import forwarding
from support.synthetic_instances import Instance

from gateway.database import describe
from gateway.database.migrate import Migration, migrate, migrations, require_current
from gateway.database.pool import Database
from gateway.database.prepared import prepared
from gateway.database.queries import Query, load
from gateway.database.tables.deliveries import WorkerVerdict
from gateway.database.tables.instances import ReceptionVerdict
from gateway.database.tables.results import Expiry
from gateway.database.tables.turns import Turn
from gateway.database.tables.units import UnitVerdict
from gateway.domain.delivery import State, pairs
from gateway.domain.instance import Kind, Place
from gateway.domain.matching import Correlation
from gateway.domain.routing import Route
from gateway.domain.unit import UnitState, transitions
from gateway.errors import DatabaseRefusedError, SchemaError
from gateway.lab.postgres import EmbeddedPostgres


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return a migrated database."""
    return make_edge()


@pytest.mark.parametrize(
    ("name", "enum"),
    [
        ("instance_kind", Kind),
        ("instance_place", Place),
        ("correlation", Correlation),
        ("route", Route),
        ("delivery_state", State),
        ("unit_state", UnitState),
    ],
)
def test_the_enums_are_those_of_the_domain(edge: EdgeSetup, name: str, enum: type[StrEnum]) -> None:
    """Both have the same values."""
    rows = edge.rows(
        "SELECT e.enumlabel FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid WHERE t.typname = %(name)s",
        name=name,
    )
    assert {row[0] for row in rows} == {member.value for member in enum}


def force(edge: EdgeSetup, state: State) -> None:
    """Every delivery is in that state, past the guard."""
    claim = "gen_random_uuid()" if state is State.IN_FLIGHT else "NULL"
    edge.run("ALTER TABLE deliveries DISABLE TRIGGER deliveries_transition")
    edge.run(
        f"UPDATE deliveries SET state = '{state}', claim_id = {claim}, lease_until = now(),"  # noqa: S608  ours
        " next_attempt_at = now()"
    )
    edge.run("ALTER TABLE deliveries ENABLE TRIGGER deliveries_transition")


def test_the_database_allows_exactly_the_transitions_of_the_domain(edge: EdgeSetup) -> None:
    """Every pair of states is tried: the database refuses each one that is not in the table."""
    with forwarding(edge) as core:
        core.receive(Instance())
    allowed, refusals = set(), []
    for before, after in itertools.permutations(State, 2):
        force(edge, before)
        claim = "gen_random_uuid()" if after is State.IN_FLIGHT else "NULL"
        try:
            with edge.database.transaction() as session:
                session.script(f"UPDATE deliveries SET state = '{after}', claim_id = {claim}")  # noqa: S608  ours
        except DatabaseRefusedError as error:
            refusals.append((error.sqlstate, f"from {before} to {after}" in str(error)))
        else:
            allowed.add((before, after))
    assert set(refusals) == {("23514", True)}
    assert allowed == {(before, after) for before, after in pairs() if before is not after}


def test_the_database_allows_exactly_the_transitions_of_units(edge: EdgeSetup) -> None:
    """Every pair of states is tried, as for deliveries."""
    allowed = set()
    for before, after in itertools.permutations(UnitState, 2):
        claim = {state: "gen_random_uuid()" if state is UnitState.SENDING else "NULL" for state in UnitState}
        row = f"'a', 'series', '1', '1', 1, 4, '{before}', {claim[before]}"
        edge.run("DELETE FROM units")
        columns = "application, unit, study_instance_uid, uid, generation, priority, state, claim_id"
        edge.run(f"INSERT INTO units ({columns}) VALUES ({row})")  # noqa: S608  ours
        try:
            edge.run(f"UPDATE units SET state = '{after}', claim_id = {claim[after]}")  # noqa: S608
        except DatabaseRefusedError as error:
            assert f"from {before} to {after}" in str(error)  # noqa: PT017
        else:
            allowed.add((before, after))
    assert allowed == transitions()


_STATEMENTS = {"0002_gateway": "26c12641cd628a45fb4fc5126fe811ad6dd7c882e36da2e4ffa36f4612a3dd49"}
"""SHA-256 of each reworded migration as it was released, without the lines that begin with `--`. Comments
that are indented count, because they may be in the body of a function, which PostgreSQL stores."""


def test_only_the_comments_of_a_migration_were_reworded() -> None:
    """Each migration that is recorded by its released digest has the statements that were released."""
    reworded = {}
    for migration in migrations():
        if migration.digest != sha256(migration.statements.encode()).hexdigest():
            statements = re.sub(r"^--.*\n", "", migration.statements, flags=re.MULTILINE)
            reworded[migration.version] = sha256(statements.encode()).hexdigest()
    assert reworded == _STATEMENTS


def test_a_database_with_the_text_before_the_rewording_is_migrated(postgres: EmbeddedPostgres) -> None:
    """A database of release 0.1.0 is migrated; one with another text, even the present one, is refused."""
    postgres.create_database("reworded")
    try:
        dsn = postgres.dsn("reworded")
        released_data.load(dsn, "0.1.0")
        assert migrate(dsn)[0] == "0003_message_order"
        present = next(m for m in migrations() if m.version == "0002_gateway").statements
        with closing(Database(dsn, application_name="test", size=1)) as database:
            require_current(database)
            released = released_data.DIGESTS["0.1.0"]["0002_gateway"]
            for other in (sha256(present.encode()).hexdigest(), released[::-1]):
                record(database, other)
                with pytest.raises(SchemaError, match="0002_gateway was applied with another text"):
                    require_current(database)
                with pytest.raises(SchemaError, match="0002_gateway was applied with another text"):
                    migrate(dsn)
            record(database, released)
            require_current(database)
    finally:
        postgres.drop_database("reworded")


def record(database: Database, digest: str) -> None:
    """Record this digest for 0002_gateway."""
    with database.transaction() as session:
        session.script(f"UPDATE schema_migrations SET digest = '{digest}' WHERE version = '0002_gateway'")  # noqa: S608


def test_the_migrations_apply_from_empty_and_again(postgres: EmbeddedPostgres) -> None:
    """The first run applies all, the second none; then the schema is current."""
    postgres.create_database("from_empty")
    try:
        dsn = postgres.dsn("from_empty")
        assert migrate(dsn) == [migration.version for migration in migrations()]
        assert migrate(dsn) == []
    finally:
        postgres.drop_database("from_empty")


_TAKES_AWAY = re.compile(
    r"\bDROP (TABLE|COLUMN|FUNCTION|TYPE|VIEW|SEQUENCE|SCHEMA)\b|\bRENAME\b|\bDELETE FROM\b"
    r"|\bTRUNCATE\b(?! ON\b)"  # a trigger may be for TRUNCATE ON a table
    r"|\bALTER COLUMN \w+ (TYPE|SET NOT NULL|DROP DEFAULT)\b"
    r"|\bADD COLUMN [^,;]*\bNOT NULL\b(?![^,;]*\bDEFAULT\b)",
    re.IGNORECASE,
)


@pytest.mark.parametrize("migration", migrations(), ids=lambda migration: migration.version)
def test_a_migration_adds_or_says_that_it_breaks(migration: Migration) -> None:
    """Processes of the version before run beside it.

    A migration that takes away begins with `-- breaking: `.
    """
    bodies = re.sub(r"\$\$.*?\$\$", "", migration.statements, flags=re.DOTALL)
    plain = re.sub(r"--[^\n]*", "", bodies)
    assert not migration.additive or not _TAKES_AWAY.search(plain), _TAKES_AWAY.search(plain)


@pytest.mark.parametrize(
    ("statement", "takes_away"),
    [
        ("ALTER TABLE a DROP COLUMN b", True),
        ("ALTER TABLE a RENAME COLUMN b TO c", True),
        ("ALTER TABLE a ADD COLUMN b text NOT NULL", True),
        ("ALTER TABLE a ALTER COLUMN b TYPE bigint", True),
        ("DROP FUNCTION f(text)", True),
        ("ALTER TABLE a ADD COLUMN b text NOT NULL DEFAULT ''", False),
        ("ALTER TABLE a ADD COLUMN b text", False),
        ("DROP INDEX i; CREATE INDEX j ON a (b)", False),
        ("CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE sql AS ''", False),
    ],
)
def test_the_check_of_breaking_migrations_finds_a_removal(statement: str, takes_away: bool) -> None:  # noqa: FBT001  a column
    """The check above can fail."""
    assert bool(_TAKES_AWAY.search(statement)) is takes_away


def test_the_schema_of_the_tests_is_current(edge: EdgeSetup) -> None:
    """`require_current`, which every process calls at its start, accepts it."""
    require_current(edge.database)


FILES = sorted(
    entry.name.removesuffix(".sql") for entry in files("gateway.database").joinpath("sql").iterdir()
)
_PARAMETER = re.compile(r"%\((\w+)\)s")
_PREPARABLE = re.compile(r"\s*(--[^\n]*\n\s*)*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
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


@pytest.mark.parametrize("file", FILES)
def test_every_statement_fits_the_schema(database_url: str, file: str) -> None:
    """PostgreSQL parses and plans each statement, so every column and function exists."""
    connection = psycopg2.connect(database_url)
    try:
        with connection.cursor() as cursor:
            for query in load(file).values():
                if not _PREPARABLE.match(query.sql):
                    continue  # EXECUTE, SET, LISTEN and the like cannot be prepared
                names = _PARAMETER.findall(query.sql)
                values = {name: timedelta(1) if name in _DURATIONS else None for name in names}
                cursor.execute("PREPARE contract AS " + query.sql, values)
                cursor.execute("DEALLOCATE contract")
    finally:
        connection.close()


PREPARED = [query for file in FILES for query in load(file).values() if query.is_prepared]


@pytest.mark.parametrize("query", PREPARED, ids=lambda query: query.name)
def test_a_statement_that_is_kept_can_be_prepared(database_url: str, query: Query) -> None:
    """PostgreSQL finds the type of each parameter, and takes a value of None for it."""
    texts = prepared(query)
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(texts.prepare)
        values = dict.fromkeys(_PARAMETER.findall(query.sql))
        cursor.execute(f"EXPLAIN {cursor.mogrify(texts.execute, values).decode()}")


@pytest.mark.parametrize("file", FILES)
def test_every_change_of_a_state_is_explained(file: str) -> None:
    """A statement that changes a state names its transition and guard."""
    for query in load(file).values():
        changes_state = re.search(r"\bstate = '", query.sql) and re.search(r"\b(UPDATE|DELETE)\b", query.sql)
        assert not changes_state or query.sql.startswith("--"), query.name


def test_the_verdicts_of_the_functions_are_those_of_the_enums() -> None:
    """Each word that a function of the schema returns is an enum's, and each enum's is returned."""
    text = "".join(migration.statements for migration in migrations())
    enums = (ReceptionVerdict, WorkerVerdict, UnitVerdict, Expiry, Turn)
    known = {member.value for enum in enums for member in enum}
    assert set(re.findall(r"verdict := '(\w+)'", text)) <= known
    assert all(f"'{word}'" in text for word in known)


def test_every_statement_that_the_code_names_exists_and_is_used() -> None:
    """No function runs a statement that no file has, and no file keeps one that nothing runs."""
    package = Path(str(files("gateway.database")))
    used: dict[str, set[str]] = defaultdict(set)
    for module in package.rglob("*.py"):
        text = module.read_text(encoding="utf-8")
        for file in re.findall(r'^_Q = load\("(\w+)"\)', text, re.MULTILINE):
            used[file] |= set(re.findall(r'_Q\["(\w+)"\]', text))
    used["dead_messages"] |= {
        f"{verb}_{what}" for verb in ("count", "discard") for what in ("dead", "unserved")
    }
    statements = {file: set(load(file)) for file in FILES if file != "fragments"}
    assert statements == used


def test_the_schema_file_is_what_the_migrations_make(edge: EdgeSetup) -> None:
    """A reader finds every table in one file; `make schema` writes it."""
    with edge.database.transaction() as session:
        made = describe.schema(session)
    assert files("gateway.database").joinpath("schema.sql").read_text(encoding="utf-8") == made


def test_each_function_stands_once_as_the_migrations_make_it(edge: EdgeSetup) -> None:
    """Applying the files of functions/ changes no definition, and there is one for every function."""
    with edge.database.transaction() as session:
        made = describe.functions(session)
        for text in describe.function_files().values():
            session.script(text)
        assert describe.functions(session) == made
    assert sorted(describe.function_files()) == sorted(function.name for function in made)
