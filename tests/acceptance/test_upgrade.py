"""Upgrade from a release: its data is used, and its processes run safely beside the new ones."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import Reconfigure
from support import released_data
from support.edge_setup import EdgeSetup
from support.launcher import REPOSITORY, Process, Processes
from support.peers import Peer, peer
from support.released_data import (
    ARRIVED,
    CANCELLED,
    CONFLICT,
    DEAD,
    DELIVERED,
    IN_FLIGHT,
    PENDING,
    RETRIED,
    UNMATCHED,
)
from support.released_tree import NotInThisCloneError, extract, start
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until

from gateway.database.migrate import migrate, migrations
from gateway.errors import AssociationRejectedError
from gateway.lab.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.guarantee("G2"), pytest.mark.guarantee("G6")]
RELEASES = {"0.1.0": "617770b"}
"""Each release and its commit."""


@pytest.fixture(params=sorted(RELEASES))
def release(request: pytest.FixtureRequest) -> str:
    """Every release in turn."""
    return str(request.param)


@pytest.fixture
def dsn(postgres: EmbeddedPostgres, release: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a database of that release with its data; DATABASE_URL says so."""
    name = f"released_{release.replace('.', '_')}"
    postgres.create_database(name)
    try:
        released_data.load(postgres.dsn(name), release)
        monkeypatch.setenv("DATABASE_URL", postgres.dsn(name))
        yield postgres.dsn(name)
    finally:
        postgres.drop_database(name)


@pytest.fixture
def edge(dsn: str, reconfigure: Reconfigure, processes: Processes) -> Iterator[EdgeSetup]:
    """Yield an edge on that database, its files where the rows say, none of its processes started."""
    fast = {"backoff_base_seconds": 0.3, "worker_timeout_seconds": 1}
    edge = EdgeSetup(reconfigure({"forwarder": fast}), dsn, processes)
    released_data.write_files(dsn, edge.configuration.edge.data_root)
    yield edge
    edge.kill()
    edge.close()


@pytest.fixture
def peers(edge: EdgeSetup) -> Iterator[dict[str, Peer]]:
    """Yield the PACS and the workers, listening."""
    with ExitStack() as stack:
        yield {d.ae_title: stack.enter_context(peer(d.port)) for d in edge.configuration.destinations}


def every_actor(edge: EdgeSetup) -> list[Process]:
    """Return the actors of each queue."""
    return edge.actors("pacs", "workers", "sweep")


def test_every_open_delivery_of_the_release_is_delivered(edge: EdgeSetup, peers: dict[str, Peer]) -> None:
    """G2: pending, claimed by dead processes, waiting for a retry, results.

    Dead and cancelled ones stay so.
    """
    untouched = (DEAD, CANCELLED)
    before = {one.sop_instance_uid: edge.delivery(one) for one in untouched}
    edge.serve()
    every_actor(edge)
    edge.run("UPDATE deliveries SET next_attempt_at = now() WHERE state = 'pending'")
    owed = (PENDING, CONFLICT, IN_FLIGHT, RETRIED, ARRIVED, UNMATCHED)
    wait_until(
        lambda: edge.one("SELECT count(*) FROM deliveries WHERE route = 'pacs' AND state = 'delivered'") == 7,
        60,
        "what the PACS is owed to be there",
    )
    assert {taken.digest for taken in peers["ORTHANC"].taken} == {one.digest for one in owed}
    assert (
        edge.one(
            "SELECT count(*) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id"
            " JOIN instances i ON i.id = d.instance_id WHERE i.sop_instance_uid = %(uid)s",
            uid=RETRIED.sop_instance_uid,
        )
        >= 2
    ), "what was tried before the upgrade is still told"
    assert {one.sop_instance_uid: edge.delivery(one) for one in untouched} == before
    retry = edge.start("mini-pacs", "deliveries", "retry", "--study", DEAD.study_instance_uid)
    assert retry.wait(60) == 0, retry.text()
    edge.wait_state(DEAD, "delivered")
    wait_until(
        lambda: edge.one("SELECT count(*) FROM deliveries WHERE claimed_by IN (4711, 4712)") == 0,
        60,
        "what the dead had claimed to be taken over",
    )
    assert edge.one("SELECT paused FROM destinations WHERE ae_title = 'APP02'")
    assert not peers["APP02"].taken
    assert DELIVERED.sop_instance_uid not in peers["ORTHANC"].uids()


def test_a_fresh_and_an_upgraded_database_have_the_same_schema(dsn: str, database_url: str) -> None:
    """Compare every table, column, constraint, index, function and trigger."""
    migrate(dsn)
    assert _described(dsn) == _described(database_url)


def _described(dsn: str) -> list[tuple[object, ...]]:
    ours = "('public'::regnamespace, 'dramatiq'::regnamespace)"
    queries = (
        """SELECT 'column', table_schema, table_name, column_name, data_type, is_nullable, column_default
            FROM information_schema.columns WHERE table_schema IN ('public', 'dramatiq')""",
        """SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
            FROM pg_constraint WHERE connamespace IN OURS""",
        "SELECT 'index', indexdef FROM pg_indexes WHERE schemaname IN ('public', 'dramatiq')",
        "SELECT 'function', pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace IN OURS",
        "SELECT 'trigger', pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
        """SELECT 'options', c.oid::regclass::text, c.reloptions::text FROM pg_class c
            WHERE c.relnamespace IN OURS""",
    )
    with released_data.reading(dsn) as cursor:
        rows: list[tuple[object, ...]] = []
        for query in queries:
            cursor.execute(query.replace("OURS", ours))
            rows += cursor.fetchall()
    return sorted(rows, key=str)


# ---- old beside new --------------------------------------------------------------------------------


LATER = """
ALTER TABLE instances ADD COLUMN later text;
ALTER TABLE deliveries ADD COLUMN later integer NOT NULL DEFAULT 0;
ALTER TABLE dramatiq.queue ADD COLUMN later text;
CREATE TABLE later (x integer);
INSERT INTO schema_migrations (version, digest, additive) VALUES ('9000_later', '', true);
"""
"""What a version after this one may do to the schema within a minor version: add."""


def _has_history() -> bool:
    """Tell whether this is a clone with all of its past: neither an archive nor shallow."""
    said = subprocess.run(
        ["git", "-C", REPOSITORY, "rev-parse", "--is-shallow-repository"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    return said.stdout.strip() == b"false"


@pytest.fixture
def released_tree(release: str, tmp_path: Path) -> Path:
    """Return the code of that release."""
    try:
        return extract(RELEASES[release], tmp_path / f"mini-pacs-{release}")
    except NotInThisCloneError as error:
        reason = f"the code of {release} ({RELEASES[release]}) is not in this clone: {error}"
        assert "CI" not in os.environ or not _has_history(), reason
        pytest.skip(f"{reason}; `git fetch --unshallow` gets what a shallow clone left out")


def test_processes_of_the_release_beside_new_ones_lose_and_repeat_nothing(
    edge: EdgeSetup, peers: dict[str, Peer], released_tree: Path
) -> None:
    """A rolling upgrade.

    The schema first while old processes run, then new ones beside them, then new ones alone.
    """
    configuration = edge.configuration
    pacs = peers[configuration.forwarder.orthanc.ae_title]
    edge.run("DELETE FROM instances")
    edge.run("DELETE FROM dramatiq.queue")
    edge.run("UPDATE destinations SET paused = false, breaker = 'closed', failures_in_row = 0")
    old = start(edge, released_tree, "cli", "serve")
    old.wait_for_port(configuration.edge.port, 60)
    actors = start(edge, released_tree, "dramatiq", "actors", "-p", "1", "-t", "4", "-Q", "pacs")
    actors.wait_for_line("ready for action", 60)
    sent: list[Instance] = []

    def send(count: int) -> None:
        batch = study_of(count)
        assert edge.send(*batch) == [0] * count
        sent.extend(batch)
        pacs.wait_for(*(one.sop_instance_uid for one in batch), timeout=60)

    send(5)
    migrate(edge.dsn)
    with edge.database.transaction() as session:
        session.script(LATER)
    send(20)
    refused = start(edge, released_tree, "cli", "serve")
    assert refused.wait(60) != 0, "a release that knows no additive migrations does not start on them"
    assert "which this version does not know" in refused.text()
    every_actor(edge)
    send(40)
    wait_until(
        lambda: edge.one("SELECT count(DISTINCT pid) FROM dramatiq.consumers") == 4,
        20,
        "old and new to stand side by side",
    )
    old.stop()
    edge.serve()
    send(20)
    actors.stop()
    send(20)
    assert all(pacs.count(one.sop_instance_uid) == 1 for one in sent), "each was sent once"
    edge.check_ledger(sent)
    assert edge.one("SELECT count(*) FROM deliveries WHERE route = 'pacs' AND state <> 'delivered'") == 0


def test_this_version_starts_on_a_schema_with_later_additions(edge: EdgeSetup) -> None:
    """On a schema that a later version broke it refuses associations, and says why."""
    migrate(edge.dsn)
    with edge.database.transaction() as session:
        session.script(LATER)
    edge.serve().stop()
    edge.actors("pacs")
    edge.run("UPDATE schema_migrations SET additive = false WHERE version = '9000_later'")
    edge.serve()
    refused = edge.wait_log(30, stage="db", outcome="refused")["error"]
    assert "the schema holds 9000_later, which this version does not know" in refused

    def is_rejected() -> bool:
        try:
            edge.send(Instance())
        except AssociationRejectedError:
            return True
        return False

    wait_until(is_rejected, 20, "every receiver to refuse associations")


def test_released_migrations_are_unchanged() -> None:
    """The text of each released migration equals the text that was applied."""
    here = {migration.version: migration.digest for migration in migrations()}
    for release, digests in released_data.DIGESTS.items():
        assert {version: here[version] for version in digests} == digests, release
