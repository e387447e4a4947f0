"""One delivery: claimed once, sent, settled; and the effect of every outcome."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.forwarding import QUICK, Forwarding, at_once, forwarding
from support.peers import ABORT, Peer
from support.synthetic_instances import Instance, study_of

from gateway.database.tables.selected_deliveries import Selection, requeue
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.forward.deliver import forward_to_pacs, forward_to_worker


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge that retries quickly."""
    return make_edge({"forwarder": QUICK})


@pytest.fixture
def core(edge: EdgeSetup) -> Iterator[Forwarding]:
    """Yield the core, in this process."""
    with forwarding(edge) as core:
        yield core


def test_a_delivery_is_sent_once_and_its_file_moves(core: Forwarding, pacs: Peer) -> None:
    """G3: the received bytes are sent; a second message of the delivery does nothing."""
    instance = Instance()
    delivery = core.owed(instance)
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    assert forward_to_pacs(core.context, delivery) is None
    [taken] = pacs.taken
    assert (taken.digest, taken.calling_ae_title) == (instance.digest, "MINI_EDGE")
    assert core.edge.delivery(instance)["state"] == "delivered"
    assert core.edge.one("SELECT outcome FROM attempts") == "delivered"


def test_the_folder_of_a_file_agrees_with_its_rows(
    core: Forwarding, pacs: Peer, workers: dict[str, Peer]
) -> None:
    """It is queued/ while a retry waits, failed/ if a delivery is dead, sent/ if all are delivered."""
    instance = Instance()
    to_pacs, to_worker = core.owed(instance), core.edge.delivery(instance, "workers")["id"]
    name = f"{instance.sop_instance_uid}.dcm"
    pacs.answer = lambda _: 0xC123
    forward_to_pacs(core.context, to_pacs)
    assert list(core.edge.files()) == [f"queued/{name}"]
    core.due()
    forward_to_pacs(core.context, to_pacs)
    assert list(core.edge.files()) == [f"failed/{name}"]
    core.edge.run("UPDATE deliveries SET state = 'pending', next_attempt_at = now() WHERE state = 'dead'")
    pacs.answer = lambda _: 0
    forward_to_pacs(core.context, to_pacs)
    forward_to_worker(core.context, to_worker)
    assert list(core.edge.files()) == [f"sent/{name}"]
    assert sum(len(worker.taken) for worker in workers.values()) == 1


def test_concurrent_actors_claim_a_delivery_once(core: Forwarding, pacs: Peer) -> None:
    """Ten deliveries, four actors each: none is sent twice."""
    instances = study_of(10)
    deliveries = [core.owed(instance) for instance in instances]
    actors = [core.actor() for _ in range(4)]
    for delivery in deliveries:
        at_once(*(lambda actor=actor, d=delivery: forward_to_pacs(actor, d) for actor in actors))
    assert sorted(pacs.uids()) == sorted(instance.sop_instance_uid for instance in instances)
    for actor in actors:
        actor.associations.close()


def claim_as(core: Forwarding, delivery: int, *, lease: str) -> None:
    """Put the delivery in flight, claimed by the core's consumer."""
    assert core.edge.run(
        "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), claimed_by = %(consumer)s,"
        " lease_until = now() + %(lease)s::interval WHERE id = %(delivery)s",
        consumer=core.context.consumer(),
        lease=lease,
        delivery=delivery,
    )


def test_a_claim_is_valid_while_its_consumer_lives_and_its_lease_runs(core: Forwarding, pacs: Peer) -> None:
    """G6: another actor claims the delivery after the lease, or at once when the consumer is gone."""
    living, leased_out, dead = (core.owed(instance) for instance in study_of(3))
    actor = core.actor()
    claim_as(core, living, lease="60 s")
    claim_as(core, leased_out, lease="-1 s")
    claim_as(core, dead, lease="60 s")
    core.edge.run("UPDATE deliveries SET claimed_by = 4711 WHERE id = %(id)s", id=dead)
    assert forward_to_pacs(actor, living) is None
    assert forward_to_pacs(actor, leased_out) is Outcome.DELIVERED
    assert forward_to_pacs(actor, dead) is Outcome.DELIVERED
    assert len(pacs.taken) == 2
    actor.associations.close()


def test_a_late_settle_only_adds_an_attempt(core: Forwarding, pacs: Peer) -> None:
    """An actor that lost its claim during the send adds an attempt, and changes nothing else."""
    instance = Instance()
    delivery = core.owed(instance)

    def steal(_: object) -> int:
        core.edge.run("UPDATE deliveries SET claim_id = gen_random_uuid() WHERE state = 'in_flight'")
        return 0

    pacs.answer = steal
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    assert core.edge.delivery(instance)["state"] == "in_flight"
    assert core.edge.rows("SELECT outcome, fenced FROM attempts") == [("delivered", True)]
    assert core.edge.log(outcome="fenced")


def test_a_claim_that_a_database_crash_lost_is_made_again(core: Forwarding, pacs: Peer) -> None:
    """Otherwise the delivery would stay pending without a message.

    Its only message ends with this attempt.
    """
    instance = Instance()
    delivery = core.owed(instance)

    def undo(_: object) -> int:
        pacs.answer = lambda _: 0
        core.edge.run(
            "UPDATE deliveries SET state = 'pending', claim_id = NULL, claimed_by = NULL, lease_until = NULL,"
            " next_attempt_at = now() WHERE state = 'in_flight'"
        )
        return 0

    pacs.answer = undo
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    assert core.edge.delivery(instance)["state"] == "delivered"
    assert core.edge.rows("SELECT fenced FROM attempts ORDER BY id") == [(True,), (False,)]
    assert len(pacs.taken) == 2


@pytest.mark.parametrize(
    ("answer", "state", "attempts", "outcome"),
    [
        (0x0000, "delivered", 1, "delivered"),
        (0xB007, "delivered", 1, "delivered"),
        (0x0111, "delivered", 1, "already_there"),
        (0xA700, "pending", 1, "not_now"),
        (0x0124, "pending", 1, "not_now"),
        (0xA900, "pending", 1, "refused"),
        (0xC000, "pending", 1, "refused"),
        (0x0110, "pending", 1, "refused"),
        (0x0122, "dead", 1, "never"),
        (ABORT, "pending", 1, "broken"),
    ],
)
def test_each_class_of_status_has_its_outcome(  # noqa: PLR0917  the columns of the table
    core: Forwarding, pacs: Peer, answer: int, state: str, attempts: int, outcome: str
) -> None:
    """G2: each class leaves its state, with the reason and the next message."""
    instance = Instance()
    delivery = core.owed(instance)
    core.edge.run("DELETE FROM dramatiq.queue")
    pacs.answer = lambda _: answer
    forward_to_pacs(core.context, delivery)
    row = core.edge.delivery(instance)
    assert (row["state"], row["attempts"]) == (state, attempts)
    assert core.edge.one("SELECT outcome FROM attempts") == outcome
    assert bool(row["last_error"]) == (state != "delivered")
    if outcome == "never":
        assert f"{instance.sop_class_uid} in 1.2.840.10008.1.2.1" in row["last_error"]
    assert core.edge.queued("pacs") == (state == "pending")


def test_an_instance_whose_context_is_not_accepted_is_dead_at_once(core: Forwarding, pacs: Peer) -> None:
    """G2: it is not retried; the reason names SOP Class and transfer syntax."""
    pacs.accepted_sop_classes = frozenset({"1.2.840.10008.5.1.4.1.1.4"})
    instance = Instance()
    forward_to_pacs(core.context, core.owed(instance))
    row = core.edge.delivery(instance)
    assert row["state"] == "dead"
    assert instance.sop_class_uid in row["last_error"]
    assert "1.2.840.10008.1.2.1" in row["last_error"]


def two_versions() -> list[Instance]:
    """Return two versions that differ under one SOP Instance UID."""
    first = Instance()
    return [first, Instance(first.sop_instance_uid, first.study_instance_uid, payload=b"\x05\x05")]


def owed_version(core: Forwarding, instance: Instance) -> int:
    """Return the id of the delivery of exactly this version."""
    kept, _ = core.receive(instance)
    return int(
        core.edge.one(
            "SELECT id FROM deliveries WHERE instance_id = %(id)s AND route = 'pacs'", id=kept.instance_id
        )
    )


def check_dead_of_a_conflict(core: Forwarding, delivery: int) -> None:
    """Check that the delivery is dead, with the reason."""
    [(state, error)] = core.edge.rows(
        "SELECT state::text, last_error FROM deliveries WHERE id = %(id)s", id=delivery
    )
    assert state == "dead"
    assert "another version" in error


def test_a_version_refused_with_0x0111_is_dead(core: Forwarding, pacs: Peer) -> None:
    """It is the later version, or the first one when sent again: the peer does not have these bytes."""
    first, second = [owed_version(core, version) for version in two_versions()]
    assert forward_to_pacs(core.context, first) is Outcome.DELIVERED
    pacs.answer = lambda _: 0x0111
    assert forward_to_pacs(core.context, second) is Outcome.ALREADY_THERE
    check_dead_of_a_conflict(core, second)
    with core.edge.database.transaction() as session:
        requeue(session, Selection(delivery_id=first), of=(State.DELIVERED,))
    assert forward_to_pacs(core.context, first) is Outcome.ALREADY_THERE
    check_dead_of_a_conflict(core, first)


def test_a_version_that_overtakes_the_first_on_its_way_is_a_conflict_too(
    core: Forwarding, pacs: Peer
) -> None:
    """It was received after the first was claimed, and the peer stored it before it answered the first."""
    first, second = two_versions()

    def overtaken(_: object) -> int:
        core.receive(second)
        return 0x0111

    delivery = owed_version(core, first)
    pacs.answer = overtaken
    forward_to_pacs(core.context, delivery)
    check_dead_of_a_conflict(core, delivery)


def test_a_delivery_whose_file_is_lost_is_dead_and_blames_no_peer(core: Forwarding, pacs: Peer) -> None:
    """G2: it is shown with the reason."""
    instance = Instance()
    delivery = core.owed(instance)
    [path] = core.edge.files().values()
    path.unlink()
    for _ in range(2):
        assert forward_to_pacs(core.context, delivery) is Outcome.LOST_FILE
        core.due()
    row = core.edge.delivery(instance)
    assert row["state"] == "dead"
    assert instance.sop_instance_uid in row["last_error"]
    assert core.edge.one("SELECT failures_in_row FROM destinations WHERE ae_title = 'ORTHANC'") == 0
    assert pacs.taken == []


@contextmanager
def no_descriptor_left(_: EdgeSetup) -> Iterator[None]:
    """Let every open of this process fail with EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def no_byte_read(edge: EdgeSetup) -> Iterator[None]:
    """Let every read of the only file fail with EIO: its name is a link to an unmapped page."""
    [path] = edge.files().values()
    aside = path.rename(path.with_suffix(".aside"))
    path.symlink_to("/proc/self/mem")
    try:
        yield
    finally:
        [path] = edge.files().values()  # the file has been moved
        aside.replace(path)


@pytest.mark.parametrize(
    ("need", "says"), [(no_byte_read, "Input/output error"), (no_descriptor_left, "Too many open files")]
)
def test_a_read_error_of_our_disk_makes_nothing_dead(
    core: Forwarding, pacs: Peer, need: Callable[[EdgeSetup], AbstractContextManager[None]], says: str
) -> None:
    """G2: after more attempts than `max_retries` it is delivered.

    The error belongs neither to the instance nor to the peer.
    """
    instance = Instance()
    delivery = core.owed(instance)
    assert core.context.identity is not None
    core.context.identity.require_folder()  # it has read spool.id, and reads it again only if it was replaced
    for attempts in range(1, 5):
        with need(core.edge):
            assert forward_to_pacs(core.context, delivery) is Outcome.NOT_READ
        row = core.edge.delivery(instance)
        assert (row["state"], row["attempts"]) == ("pending", attempts)
        assert says in row["last_error"]
        core.due()
    assert core.edge.one("SELECT failures_in_row FROM destinations WHERE ae_title = 'ORTHANC'") == 0
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    assert [taken.digest for taken in pacs.taken] == [instance.digest]
