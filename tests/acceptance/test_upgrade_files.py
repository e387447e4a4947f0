"""Upgrade from a release with its database and its spool, both written by its own processes.

Everything that the release owed is delivered, and nothing else is sent.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from conftest import Reconfigure
from support import release_scenario as scenario
from support import released_data
from support.edge_setup import EdgeSetup
from support.launcher import Processes
from support.peers import Peer, peer
from support.waiting import wait_until

from gateway.lab.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.guarantee("G2"), pytest.mark.guarantee("G6")]

STATES = """
SELECT encode(i.sha256, 'hex'), d.route::text, d.state::text
FROM deliveries d JOIN instances i ON i.id = d.instance_id
"""
OPEN = "SELECT count(*) FROM deliveries WHERE state IN ('pending', 'in_flight')"


@pytest.fixture(params=released_data.WITH_FILES)
def edge(
    request: pytest.FixtureRequest,
    postgres: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
    reconfigure: Reconfigure,
    processes: Processes,
) -> Iterator[EdgeSetup]:
    """Yield an edge on the release's database and files, none of its processes started."""
    name = f"files_{request.param.replace('.', '_')}"
    dsn = postgres.dsn(name)
    postgres.create_database(name)
    released_data.load(dsn, request.param)
    monkeypatch.setenv("DATABASE_URL", dsn)
    fast = {"forwarder": {"backoff_base_seconds": 0.3}, "sweep": {"orphan_grace_seconds": 0.001}}
    edge = EdgeSetup(reconfigure(fast), dsn, processes)
    released_data.extract_files(request.param, edge.configuration.edge.data_root)
    yield edge
    edge.kill()
    edge.close()
    postgres.drop_database(name)


@pytest.fixture
def peers(edge: EdgeSetup) -> Iterator[dict[str, Peer]]:
    """Yield the PACS and the workers, listening."""
    with ExitStack() as stack:
        yield {d.ae_title: stack.enter_context(peer(d.port)) for d in edge.configuration.destinations}


def states(edge: EdgeSetup) -> dict[tuple[str, str], str]:
    """Return the state of each delivery, by the digest of its instance and its route."""
    return {(digest, route): state for digest, route, state in edge.rows(STATES)}


def test_what_the_release_owed_is_delivered_and_nothing_else(edge: EdgeSetup, peers: dict[str, Peer]) -> None:
    """Its files are in incoming, queued, sent and failed; one has no row, one is a partial file."""
    before = states(edge)
    assert set(before.values()) == {"pending", "in_flight", "dead", "delivered", "cancelled"}
    edge.serve()
    edge.actors("pacs", "workers", "sweep")
    retry = edge.start("mini-pacs", "deliveries", "retry", "--state", "pending")
    assert retry.wait(60) == 0, retry.text()
    wait_until(lambda: edge.one(OPEN) == 0, 90, "everything owed to be delivered")
    owed = {key for key, state in before.items() if state in {"pending", "in_flight"}}
    after = states(edge)
    assert {key: after[key] for key in before} == {
        k: "delivered" if k in owed else s for k, s in before.items()
    }
    assert set(after) == set(before), "no delivery is new"

    pacs = Counter(taken.digest for taken in peers.pop("ORTHANC").taken)
    assert pacs == Counter(one.digest for one in scenario.OWED_TO_PACS)
    workers = Counter(taken.digest for one in peers.values() for taken in one.taken)
    assert workers == Counter(one.digest for one in scenario.OWED_TO_WORKERS)


def test_the_newest_version_of_a_uid_ends_at_the_pacs(edge: EdgeSetup, peers: dict[str, Peer]) -> None:
    """Also if the release had delivered the first version, or none."""
    edge.serve()
    edge.actors("pacs")
    wait_until(lambda: edge.one(f"{OPEN} AND route = 'pacs' AND attempts = 0") == 0, 90, "the deliveries")
    taken = [one.digest for one in peers["ORTHANC"].taken]
    assert taken.index(scenario.FIRST.digest) < taken.index(scenario.SECOND.digest)
    assert scenario.NEWER.digest in taken


def test_every_file_of_the_release_is_found_and_strays_go(edge: EdgeSetup, peers: dict[str, Peer]) -> None:
    """After the sweep each instance has its file in the folder of its row, and no other file is there."""
    edge.serve()
    edge.actors("pacs", "workers")
    retry = edge.start("mini-pacs", "deliveries", "retry", "--state", "pending")
    assert retry.wait(60) == 0, retry.text()
    wait_until(lambda: edge.one(OPEN) == 0, 90, "everything owed to be delivered")
    edge.heal()
    edge.check_ledger(scenario.EVERY)
    rows = {row[0] for row in edge.rows("SELECT place::text || '/' || file_name FROM instances")}
    assert len(rows) == len(scenario.EVERY)
    assert {name for name in edge.files() if name.split("/")[0] not in {"orphaned", "damaged"}} == rows
    assert scenario.CUT_OFF.sop_instance_uid not in {
        taken.sop_instance_uid for taken in peers["ORTHANC"].taken
    }


def test_what_was_dead_or_cancelled_can_be_sent_after_the_upgrade(
    edge: EdgeSetup, peers: dict[str, Peer]
) -> None:
    """Their files are in failed/."""
    edge.serve()
    edge.actors("pacs")
    again = (scenario.DEAD, scenario.CANCELLED, scenario.DEAD_MESSAGE)
    for instance in again:
        retry = edge.start(
            "mini-pacs", "deliveries", "retry", "--route", "pacs", "--study", instance.study_instance_uid
        )
        assert retry.wait(60) == 0, retry.text()
    for instance in again:
        edge.wait_state(instance, "delivered")
    peers["ORTHANC"].wait_for(*(one.sop_instance_uid for one in again))
