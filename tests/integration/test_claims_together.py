"""Deliveries that are claimed with their messages, and settled together with them."""

from collections.abc import Iterator

import psycopg2
import pytest
from conftest import MakeEdge
from support.consuming import Consuming
from support.forwarding import Forwarding, forwarding
from support.statements import noted
from support.synthetic_instances import Instance, study_of
from support.versions import versions
from support.waiting import wait_until

from actors.queue.in_flight import EndingKind, InFlightMessage
from gateway.database.tables.deliveries import Delivered, DeliveryClaim, Settlement
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.forward.sent import SentDelivery
from gateway.forward.settle_together import settle_together

pytestmark = pytest.mark.guarantee("G2")


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield an edge that forwards to the PACS only."""
    with forwarding(make_edge({"forwarder": {"mode": "pacs_only"}})) as core:
        yield core


@pytest.fixture
def consuming(core: Forwarding) -> Iterator[Consuming]:
    """Yield a consumer."""
    consuming = Consuming(core.edge.dsn)
    try:
        yield consuming
    finally:
        consuming.close()


def states(core: Forwarding) -> list[str]:
    """Return the states of all deliveries, by their ids."""
    return [row[0] for row in core.edge.rows("SELECT state FROM deliveries ORDER BY id")]


def claim_of(message: InFlightMessage) -> DeliveryClaim:
    """Take the delivery of a message, as its actor does."""
    claim = message.take_delivery(message.args[0], "ORTHANC")
    assert claim is not None
    return claim


def sent(message: InFlightMessage) -> tuple[SentDelivery, Delivered]:
    """Return what the actor of a message leaves, and the row of the message."""
    claim = claim_of(message)
    settlement = Settlement(
        State.DELIVERED,
        counted=True,
        refused=False,
        outcome=Outcome.DELIVERED,
        destination="ORTHANC",
        status=0,
        error=None,
        duration_ms=1.5,
    )
    return SentDelivery(claim, Route.PACS, settlement), Delivered(
        claim, settlement, message.run[0], message.consumer, message.run[1]
    )


def settle(core: Forwarding, messages: list[InFlightMessage]) -> list[tuple[bool, bool]]:
    """Settle what the actors of these messages sent."""
    pairs = [sent(message) for message in messages]
    return list(settle_together(core.context, [one for one, _ in pairs], [row for _, row in pairs]))


# ---- claims ----------------------------------------------------------------------------------------


def test_one_statement_claims_messages_and_their_deliveries(core: Forwarding, consuming: Consuming) -> None:
    """Each message holds its own delivery, with the values of its instance."""
    instances = study_of(3)
    ids = [core.owed(instance) for instance in instances]
    messages = consuming.take(3)
    assert states(core) == ["in_flight"] * 3
    claims = [claim_of(message) for message in messages]
    assert [claim.delivery_id for claim in claims] == [message.args[0] for message in messages] == ids
    assert [claim.instance.sop_instance_uid for claim in claims] == [
        one.sop_instance_uid for one in instances
    ]


def test_a_delivery_that_no_actor_took_is_pending_again(core: Forwarding, consuming: Consuming) -> None:
    """Its message runs again: it is the only one of the delivery."""
    core.owed(Instance())
    [message] = consuming.take(1)
    consuming.consumer.ack(message)
    wait_until(lambda: states(core) == ["pending"], 10, "the release")
    wait_until(lambda: core.edge.queued("pacs") == 1, 10, "the message to be given back")
    [again] = consuming.take(1)
    assert claim_of(again).delivery_id == again.args[0]


def test_what_was_not_started_is_released_at_the_end_of_the_process(core: Forwarding) -> None:
    """Another process claims it at once."""
    core.owed(Instance())
    first, second = Consuming(core.edge.dsn), Consuming(core.edge.dsn)
    try:
        first.consumer.requeue(first.take(1))
        assert states(core) == ["pending"]
        assert claim_of(*second.take(1))
    finally:
        first.close()
        second.close()


def test_a_delivery_to_another_destination_is_not_taken(core: Forwarding, consuming: Consuming) -> None:
    """The configuration changed between the claim and the actor."""
    core.owed(Instance())
    [message] = consuming.take(1)
    assert message.take_delivery(message.args[0], "OTHER") is None
    assert [claim.destination for claim in message.deliveries_to_release()] == ["ORTHANC"]
    assert message.ending.kind is EndingKind.UNSTARTED


def test_versions_are_claimed_by_their_actors(core: Forwarding, consuming: Consuming) -> None:
    """They are sent in their order, which the claim of messages does not know."""
    versions(core)
    messages = consuming.take(2)
    assert states(core) == ["pending", "pending"]
    assert [message.deliveries_to_release() for message in messages] == [[], []]


def test_a_locked_delivery_delays_no_claim(core: Forwarding, consuming: Consuming) -> None:
    """Its message is claimed; its actor claims the delivery later."""
    locked, free = core.owed(Instance()), core.owed(Instance())
    holder = psycopg2.connect(core.edge.dsn)
    try:
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM deliveries WHERE id = %s FOR UPDATE", (locked,))
            held = {message.args[0]: message.deliveries_to_release() for message in consuming.take(2)}
    finally:
        holder.close()
    assert held[locked] == []
    assert [claim.delivery_id for claim in held[free]] == [free]


def test_a_queue_without_terms_claims_no_delivery(core: Forwarding, consuming: Consuming) -> None:
    """As that of an archive with a rate: the delivery is claimed after the wait for its slot."""
    consuming.terms = None
    core.owed(Instance())
    [message] = consuming.take(1)
    assert states(core) == ["pending"]
    assert message.deliveries_to_release() == []


def test_no_claim_follows_one_that_took_all(
    core: Forwarding, consuming: Consuming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until a message is notified, or is due."""
    core.owed(Instance())
    consuming.take(1)
    claims = noted(monkeypatch)
    assert next(consuming.consumer) is None
    assert [one for one in claims if "EXECUTE claim" in one] == []
    core.owed(Instance())
    core.context.wakeup.wake(Route.PACS)
    assert len(consuming.take(1)) == 1


# ---- settlements -----------------------------------------------------------------------------------


def test_a_batch_is_settled_by_one_statement(
    core: Forwarding, consuming: Consuming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliveries, attempts, messages and files are as after single settlements and acks."""
    for instance in study_of(3):
        core.owed(instance)
    messages = consuming.take(3)
    sent_now = noted(monkeypatch)
    assert settle(core, messages) == [(True, True)] * 3
    assert len([one for one in sent_now if "settle" in one]) == 1
    assert states(core) == ["delivered"] * 3
    assert core.edge.queued("pacs") == 0
    assert core.edge.rows("SELECT DISTINCT outcome, status, fenced FROM attempts") == [
        ("delivered", 0, False)
    ]
    assert core.edge.one("SELECT count(*) FROM attempts") == 3
    assert {path.parent.parent.name for path in core.edge.files().values()} == {"sent"}
    assert len(core.edge.log(stage="forward_pacs", outcome="delivered")) == 3


def test_a_lost_claim_is_fenced_and_keeps_its_message(core: Forwarding, consuming: Consuming) -> None:
    """Its delivery may be pending again, with this message as its only one. The others are settled."""
    lost, held = core.owed(Instance()), core.owed(Instance())
    messages = consuming.take(2)
    core.edge.run("UPDATE deliveries SET claim_id = gen_random_uuid() WHERE id = %(id)s", id=lost)
    assert settle(core, messages) == [(False, False), (True, True)]
    assert states(core) == ["in_flight", "delivered"]
    assert core.edge.queued("pacs") == 1
    fenced = core.edge.rows("SELECT delivery_id, fenced FROM attempts ORDER BY delivery_id")
    assert fenced == [(lost, True), (held, False)]


def test_an_instance_that_got_a_version_meanwhile_is_settled_alone(
    core: Forwarding, consuming: Consuming
) -> None:
    """Its later version is woken by that settlement."""
    first = Instance()
    core.owed(first)
    messages = consuming.take(1)
    second = Instance(sop_instance_uid=first.sop_instance_uid, payload=b"other bytes!")
    core.receive(second)
    assert settle(core, messages) == [(True, False)]
    assert states(core) == ["delivered", "pending"]


def test_a_locked_instance_is_settled_after_the_others(core: Forwarding, consuming: Consuming) -> None:
    """The batch waits for no lock while it holds others, so it is never part of a deadlock."""
    core.owed(Instance())
    locked = core.owed(Instance())
    messages = consuming.take(2)
    holder = psycopg2.connect(core.edge.dsn)
    try:
        with holder.cursor() as cursor:
            cursor.execute(
                "SELECT FROM instances i JOIN deliveries d ON d.instance_id = i.id WHERE d.id = %s"
                " FOR UPDATE OF i",
                (locked,),
            )
            pairs = [sent(message) for message in messages]
            results = settle_together(core.context, [one for one, _ in pairs], [row for _, row in pairs])
            assert next(results) == (True, True)
            assert states(core) == ["delivered", "in_flight"]
        holder.rollback()
        assert next(results) == (True, False)
    finally:
        holder.close()
    assert states(core) == ["delivered", "delivered"]


def test_a_purged_instance_harms_no_batch(core: Forwarding, consuming: Consuming) -> None:
    """Its claim no longer holds, and its attempt has no row."""
    gone = core.owed(Instance())
    core.owed(Instance())
    messages = consuming.take(2)
    core.edge.run(
        "DELETE FROM instances WHERE id = (SELECT instance_id FROM deliveries WHERE id = %(id)s)", id=gone
    )
    assert settle(core, messages) == [(False, False), (True, True)]
    assert states(core) == ["delivered"]


def test_the_failures_of_a_peer_end_with_a_batch(core: Forwarding, consuming: Consuming) -> None:
    """As with a single settlement."""
    core.owed(Instance())
    core.edge.run("UPDATE destinations SET failures_in_row = 2 WHERE ae_title = 'ORTHANC'")
    assert settle(core, consuming.take(1)) == [(True, True)]
    assert core.edge.one("SELECT failures_in_row FROM destinations WHERE ae_title = 'ORTHANC'") == 0
