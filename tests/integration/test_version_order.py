"""Versions of one SOP Instance UID at a destination.

The later one waits, and is the last one stored there.
"""

from collections.abc import Callable, Iterator

import psycopg2
import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, at_once, forwarding
from support.peers import Peer
from support.synthetic_instances import study_of
from support.versions import (
    WAITING_LONG,
    cancel,
    die,
    digests,
    messages,
    operate,
    state,
    take_messages,
    versions,
)
from support.waiting import wait_until

from gateway.database.tables import breakers
from gateway.domain.contract import FORWARD
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.forward.deliver import forward_to_pacs, forward_to_worker
from gateway.sweep.reconcile import reconcile
from gateway.sweep.rescue import rescue

pytestmark = pytest.mark.guarantee("G4")


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core without its processes, with the pace of `WAITING_LONG`."""
    with forwarding(make_edge(WAITING_LONG)) as core:
        yield core


# ---- the later one waits ---------------------------------------------------------------------------


def test_the_later_version_waits_for_the_earlier_one(core: Forwarding, pacs: Peer) -> None:
    """The message of the later version ends without work.

    The settle of the earlier version enqueues it in the same transaction.
    """
    (first, second), (one, two) = versions(core)
    take_messages(core)
    assert forward_to_pacs(core.context, two) is None
    assert (state(core, two), messages(core, two)) == ("pending", 0)
    assert forward_to_pacs(core.context, one) is Outcome.DELIVERED
    assert messages(core, two) == 1
    assert forward_to_pacs(core.context, two) is Outcome.DELIVERED
    assert digests(pacs) == [first.digest, second.digest]


def test_an_operator_sees_what_a_version_waits_for(core: Forwarding) -> None:
    """In `deliveries show`, in `deliveries list`, and in the timeline of the study."""
    (first, _), (one, two) = versions(core)
    reason = f"waits for version 1 (delivery {one})"
    for waits in (two, two):  # before the attempt, and after it
        shown = " ".join(operate("deliveries", "show", str(waits)).split())
        assert f"waits for version 1 (delivery {one})" in shown
        assert f'"waits_for": {one}' in operate("deliveries", "list", "--delivery", str(two), "--json")
        assert reason in operate("status", "--study", first.study_instance_uid, "--json")
        forward_to_pacs(core.context, two)
    assert "waits for version" not in operate("deliveries", "show", str(one))


def test_three_versions_are_sent_one_after_the_other(core: Forwarding, pacs: Peer) -> None:
    """Any message may run first; each settle wakes the next version only."""
    instances, ids = versions(core, count=3)
    take_messages(core)
    for delivery in reversed(ids[1:]):
        assert forward_to_pacs(core.context, delivery) is None
    for delivery in ids:
        assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    assert digests(pacs) == [instance.digest for instance in instances]


def test_a_version_in_backoff_is_waited_for(core: Forwarding, pacs: Peer) -> None:
    """The later version waits for minutes if necessary; then both are sent, in order."""
    (first, second), (one, two) = versions(core)
    pacs.answer = lambda _: 0xA700
    assert forward_to_pacs(core.context, one) is Outcome.NOT_NOW
    pacs.answer = lambda _: 0
    assert forward_to_pacs(core.context, two) is None
    core.due()
    assert forward_to_pacs(core.context, one) is Outcome.DELIVERED
    assert forward_to_pacs(core.context, two) is Outcome.DELIVERED
    assert digests(pacs) == [first.digest, second.digest]


def _dead_letter(core: Forwarding, delivery: int) -> None:
    die(core, delivery)
    core.edge.run(
        "UPDATE dramatiq.queue SET state = 'rejected', reason = 'three deaths' WHERE delivery_id = %(id)s",
        id=delivery,
    )


def _refuse(core: Forwarding, delivery: int) -> None:
    core.edge.run("UPDATE deliveries SET refusals = 99 WHERE id = %(id)s", id=delivery)
    assert forward_to_pacs(core.context, delivery) is Outcome.REFUSED


@pytest.mark.parametrize(
    ("end", "ends"),
    [(cancel, "cancelled"), (_refuse, "dead"), (_dead_letter, "dead")],
    ids=["cancelled", "refused", "its message died"],
)
def test_the_later_version_is_sent_however_the_earlier_ended(
    core: Forwarding, pacs: Peer, end: Callable[[Forwarding, int], None], ends: str
) -> None:
    """The end of the earlier version enqueues the later one in each case."""
    (_, second), (one, two) = versions(core)
    take_messages(core)
    assert forward_to_pacs(core.context, two) is None
    pacs.answer = lambda _: 0xC123
    end(core, one)
    assert (state(core, one), messages(core, two)) == (ends, 1)
    pacs.answer = lambda _: 0
    assert forward_to_pacs(core.context, two) is Outcome.DELIVERED
    assert digests(pacs) == [second.digest]


def test_a_version_whose_process_died_is_sent_again_first(core: Forwarding, pacs: Peer) -> None:
    """Its own message sends it, or the sweep when its lease is over."""
    (first, second), (one, two) = versions(core)
    die(core, one)
    assert forward_to_pacs(core.context, two) is None
    core.edge.run("UPDATE deliveries SET lease_until = now() - interval '1 s' WHERE state = 'in_flight'")
    assert rescue(core.sweeping())
    assert forward_to_pacs(core.context, two) is None
    assert forward_to_pacs(core.context, one) is Outcome.DELIVERED
    assert forward_to_pacs(core.context, two) is Outcome.DELIVERED
    assert digests(pacs) == [first.digest, second.digest]


def test_two_versions_of_one_uid_are_never_sent_at_once(core: Forwarding, pacs: Peer) -> None:
    """Twenty UIDs; four actors run all messages at once."""
    found = [versions(core) for _ in range(20)]
    actors = [core.actor() for _ in range(4)]
    queue = [delivery for _, ids in found for delivery in ids]

    def work(number: int) -> None:
        for delivery in queue[number % 4 :: 2]:
            forward_to_pacs(actors[number], delivery)

    for _ in range(4):
        at_once(*(lambda number=number: work(number) for number in range(4)))
    order = digests(pacs)
    for actor in actors:
        actor.associations.close()
    for (first, second), _ in found:
        assert [digest for digest in order if digest in {first.digest, second.digest}] == [
            first.digest,
            second.digest,
        ]


def test_a_worker_gets_the_later_version_after_the_earlier(
    core: Forwarding, workers: dict[str, Peer]
) -> None:
    """The routes do not wait for each other."""
    (first, second), (one, two) = versions(core, Route.WORKERS)
    take_messages(core)
    assert forward_to_worker(core.context, two) is None
    assert forward_to_worker(core.context, one) is Outcome.DELIVERED
    assert messages(core, two) == 1
    assert forward_to_worker(core.context, two) is Outcome.DELIVERED
    taken = sorted((taken for worker in workers.values() for taken in worker.taken), key=lambda one: one.at)
    assert [one.digest for one in taken] == [first.digest, second.digest]


# ---- the sweep -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pacs")
def test_reconcile_leaves_a_waiting_version_alone_and_finds_a_missed_one(core: Forwarding) -> None:
    """It enqueues no message for a version that waits, and one for a version that waits for nothing."""
    _, (one, two) = versions(core)
    forward_to_pacs(core.context, two)
    take_messages(core)
    core.edge.run("UPDATE deliveries SET next_attempt_at = now() - interval '1 hour' WHERE state = 'pending'")
    assert reconcile(core.sweeping())["messages_sent"] >= 1
    assert (messages(core, one), messages(core, two)) == (1, 0)
    core.edge.run("UPDATE deliveries SET is_waited_for = false")
    assert forward_to_pacs(core.context, one) is Outcome.DELIVERED
    assert messages(core, two) == 0
    reconcile(core.sweeping())
    assert messages(core, two) == 1
    assert forward_to_pacs(core.context, two) is Outcome.DELIVERED


@pytest.mark.usefixtures("pacs")
def test_a_probe_by_c_store_takes_a_version_that_may_be_sent(core: Forwarding) -> None:
    """It never takes a waiting version, however old."""
    _, (one, two) = versions(core)
    core.edge.run(
        "UPDATE deliveries SET next_attempt_at = now() - interval '1 hour' WHERE id = %(id)s", id=two
    )
    forward_to_pacs(core.context, two)
    core.edge.run("UPDATE destinations SET breaker = 'open', next_probe_at = now() WHERE route = 'pacs'")
    ae_title = core.edge.configuration.forwarder.orthanc.ae_title
    with core.edge.database.transaction() as session:
        assert breakers.choose_probes(session, ae_title) == [one]


# ---- what it costs ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("pacs")
def test_an_instance_with_one_version_calls_no_version_function(core: Forwarding) -> None:
    """This holds from its reception to its settle."""
    core.edge.run(f"ALTER DATABASE {_database(core)} SET track_functions = 'all'")
    core.edge.database.close()
    for instance in study_of(5):
        assert forward_to_pacs(core.context, core.owed(instance)) is Outcome.DELIVERED
    core.edge.database.close()
    names = "('is_in_turn', 'lock_versions', 'wake_versions', 'owe_newest_again', 'other_versions')"
    wait_until(
        lambda: (
            core.edge.one("SELECT sum(calls) FROM pg_stat_user_functions WHERE funcname = 'settle_delivery'")
            == 5
        ),
        20,
        "the statistics",
    )
    assert core.edge.rows(f"SELECT funcname FROM pg_stat_user_functions WHERE funcname IN {names}") == []  # noqa: S608


def _database(core: Forwarding) -> str:
    return str(psycopg2.extensions.parse_dsn(core.edge.dsn)["dbname"])


def test_the_database_wakes_the_actors_of_the_contract(core: Forwarding) -> None:
    """One SQL function contains their names."""
    found = core.edge.rows("SELECT r::text, forward_actor(r) FROM unnest(enum_range(NULL::route)) AS r")
    assert dict(found) == {route.value: FORWARD[route].actor_name for route in Route}
