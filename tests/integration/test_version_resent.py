"""When an older version is sent last, the newest version is sent again after it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, forwarding
from support.peers import Peer
from support.synthetic_instances import Instance
from support.versions import (
    LARGE,
    WAITING_LONG,
    cancel,
    die,
    digests,
    messages,
    operate,
    owed,
    requeue,
    state,
    take_messages,
    versions,
)

from gateway.database.tables import deliveries
from gateway.database.tables.instances import ReceptionVerdict
from gateway.dicom.policy import Rejection, Requestor
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Origin, Route
from gateway.forward.deliver import forward_to_pacs
from gateway.sweep.purge import purge
from gateway.sweep.rescue import rescue

pytestmark = pytest.mark.guarantee("G4")


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core without its processes, with the pace of `WAITING_LONG`."""
    with forwarding(make_edge(WAITING_LONG)) as core:
        yield core


def test_an_older_version_that_is_sent_again_is_followed_by_the_newest(core: Forwarding, pacs: Peer) -> None:
    """It follows an operator's retry or resend of one delivery, with a message, and shows the reason."""
    (first, second, third), ids = versions(core, count=3)
    for delivery in ids:
        forward_to_pacs(core.context, delivery)
    take_messages(core)
    requeue(core, ids[0])
    assert forward_to_pacs(core.context, ids[0]) is Outcome.DELIVERED
    assert [state(core, delivery) for delivery in ids] == ["delivered", "delivered", "pending"]
    assert messages(core, ids[2]) == 1
    assert "brought an older version" in operate("deliveries", "show", str(ids[2]))
    assert forward_to_pacs(core.context, ids[2]) is Outcome.DELIVERED
    assert digests(pacs) == [first.digest, second.digest, third.digest, first.digest, third.digest]
    assert [state(core, delivery) for delivery in ids] == ["delivered"] * 3


def test_the_versions_of_a_resent_study_are_sent_in_order(core: Forwarding, pacs: Peer) -> None:
    """Each version is sent once."""
    (first, second), ids = versions(core)
    for delivery in ids:
        forward_to_pacs(core.context, delivery)
    for delivery in ids:
        requeue(core, delivery)
    for delivery in (ids[1], ids[0], ids[1], ids[0]):
        forward_to_pacs(core.context, delivery)
    assert digests(pacs) == [first.digest, second.digest] * 2


def test_a_late_end_of_an_older_version_sends_the_newest_again(core: Forwarding, pacs: Peer) -> None:
    """The process of the older version was stopped after its last byte.

    Another process sent it again meanwhile, and then the newer version.
    """
    (first, second), (one, two) = versions(core)
    late = core.actor()

    def overtake(_: object) -> int:
        pacs.answer = lambda _: 0
        core.edge.run("UPDATE deliveries SET lease_until = now() - interval '1 s' WHERE id = %(id)s", id=one)
        assert forward_to_pacs(core.context, one) is Outcome.DELIVERED
        assert forward_to_pacs(core.context, two) is Outcome.DELIVERED
        return 0

    pacs.answer = overtake
    assert forward_to_pacs(late, one) is Outcome.DELIVERED
    late.associations.close()
    assert digests(pacs) == [first.digest, second.digest, first.digest]
    assert forward_to_pacs(core.context, two) is Outcome.DELIVERED
    assert digests(pacs)[-1] == second.digest
    assert state(core, two) == "delivered"


def test_a_late_end_while_the_newest_is_on_its_way_sends_it_once_more(core: Forwarding, pacs: Peer) -> None:
    """It cannot be known which of the two the PACS stored last."""
    (_, second), (one, two) = versions(core)
    late = core.actor()

    def overtake(_: object) -> int:
        pacs.answer = lambda _: 0
        core.edge.run("UPDATE deliveries SET lease_until = now() - interval '1 s' WHERE id = %(id)s", id=one)
        assert forward_to_pacs(core.context, one) is Outcome.DELIVERED
        with core.edge.database.transaction() as session:
            claim = deliveries.claim(
                session,
                two,
                consumer=core.context.consumer(),
                lease=core.edge.configuration.edge.duplicate_window,
                destination="ORTHANC",
            )
        assert claim is not None
        held.append(claim)
        return 0

    held: list[deliveries.DeliveryClaim] = []
    pacs.answer = overtake
    assert forward_to_pacs(late, one) is Outcome.DELIVERED
    late.associations.close()
    settlement = deliveries.Settlement(
        State.DELIVERED,
        counted=True,
        refused=False,
        outcome=Outcome.DELIVERED,
        destination="ORTHANC",
        status=0,
        error=None,
        duration_ms=1.0,
    )
    take_messages(core)
    with core.edge.database.transaction() as session:
        assert deliveries.settle(session, held[0], Route.PACS, settlement).settled
    assert (state(core, two), messages(core, two)) == ("pending", 1)
    assert forward_to_pacs(core.context, two) is Outcome.DELIVERED
    assert digests(pacs)[-1] == second.digest


def test_an_attempt_without_an_end_that_is_cancelled_may_have_arrived(core: Forwarding) -> None:
    """The process of the older version died between claim and settle, so the newest is sent again."""
    _, (one, two) = versions(core)
    core.edge.run(
        "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), lease_until = now()"
    )
    core.edge.run(
        "UPDATE deliveries SET state = 'delivered', claim_id = NULL, lease_until = NULL, settled_at = now()"
    )
    requeue(core, one)
    die(core, one)
    core.edge.run("UPDATE deliveries SET lease_until = now() - interval '1 s' WHERE state = 'in_flight'")
    rescue(core.sweeping())
    take_messages(core)
    cancel(core, one)
    assert (state(core, one), state(core, two), messages(core, two)) == ("cancelled", "pending", 1)


def test_the_newest_version_is_kept_while_an_older_one_can_be_retried(core: Forwarding, pacs: Peer) -> None:
    """The older one was refused. Days later an operator retries it, and the PACS ends with the newest."""
    (first, second), (one, two) = versions(core)
    pacs.answer = lambda _: 0xC123
    core.edge.run("UPDATE deliveries SET refusals = 99 WHERE id = %(id)s", id=one)
    assert forward_to_pacs(core.context, one) is Outcome.REFUSED
    pacs.answer = lambda _: 0
    assert forward_to_pacs(core.context, two) is Outcome.DELIVERED
    core.edge.run("DELETE FROM deliveries WHERE route <> 'pacs'")
    core.edge.run("UPDATE instances SET received_at = now() - interval '100 days'")
    core.edge.run("UPDATE deliveries SET settled_at = now() - interval '99 days'")
    assert purge(core.sweeping())["purged"] == 0
    requeue(core, one)
    for delivery in (one, two):
        assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    assert digests(pacs) == [second.digest, first.digest, second.digest]
    core.edge.run("UPDATE deliveries SET settled_at = now() - interval '99 days'")
    assert purge(core.sweeping())["purged"] == 2


@pytest.mark.usefixtures("pacs")
def test_a_cancelled_retry_that_was_never_claimed_sends_nothing(core: Forwarding) -> None:
    """The older version cannot have arrived again."""
    _, (one, two) = versions(core)
    for delivery in (one, two):
        forward_to_pacs(core.context, delivery)
    requeue(core, one)
    cancel(core, one)
    assert state(core, two) == "delivered"


@pytest.mark.parametrize("when", ["pending", "in flight", "delivered", "cancelled"])
def test_a_repeat_of_an_older_version_becomes_the_newest(core: Forwarding, pacs: Peer, when: str) -> None:
    """A, B, A: the PACS ends with A, whatever the state of the first delivery of A."""
    (first, _), (one, two) = versions(core)
    last = f"SELECT owe_last(instance_id, 'pacs', 'forward_to_pacs', 4) FROM deliveries WHERE id = {one}"  # noqa: S608
    match when:
        case "pending":
            assert core.edge.one(last)
        case "in flight":

            def repeat(_: object) -> int:
                pacs.answer = lambda _: 0
                assert core.edge.one(last)
                return 0

            pacs.answer = repeat
            forward_to_pacs(core.context, one)
        case "cancelled":
            cancel(core, one)
            assert core.edge.one(last)
        case _:
            forward_to_pacs(core.context, one)
            assert core.edge.one(last)
    for _ in range(2):
        for delivery in (one, two):
            forward_to_pacs(core.context, delivery)
    assert digests(pacs)[-1] == first.digest
    assert {state(core, one), state(core, two)} == {"delivered"}
    assert not core.edge.one(last)


def test_a_process_that_was_stopped_for_longer_than_its_lease_breaks_off(
    core: Forwarding, pacs: Peer
) -> None:
    """It aborts before its last bytes, so it completes no older version; its peer is not blamed."""
    instance = Instance(payload=LARGE)
    delivery = core.owed(instance)
    configuration = core.edge.configuration
    brief = configuration.forwarder.model_copy(update={"lease_seconds": 1e-6})
    stopped = replace(core.actor(), configuration=configuration.model_copy(update={"forwarder": brief}))
    admit = pacs.admit

    def take_over(_requestor: Requestor) -> Rejection | None:
        pacs.admit = admit  # type: ignore[method-assign]
        assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
        return None

    pacs.admit = take_over  # type: ignore[method-assign]
    assert forward_to_pacs(stopped, delivery) is Outcome.OVERTAKEN
    stopped.associations.close()
    assert digests(pacs) == [instance.digest]
    assert state(core, delivery) == "delivered"
    assert core.edge.rows("SELECT outcome, fenced FROM attempts ORDER BY id") == [
        ("delivered", False),
        ("overtaken", True),
    ]
    assert core.edge.one("SELECT failures_in_row FROM destinations WHERE ae_title = 'ORTHANC'") == 0


def test_a_repeat_of_an_older_version_that_may_be_from_the_pacs_is_shown_and_can_be_forwarded(
    core: Forwarding, pacs: Peer
) -> None:
    """A, B, A under the AE title of the PACS may come from the PACS itself.

    So `status` shows it, and an operator decides.
    """
    (first, second), ids = versions(core)
    for delivery in ids:
        forward_to_pacs(core.context, delivery)
    kept, _ = core.receive(first, origin=Origin.PERHAPS_ARCHIVE)
    assert kept.verdict is ReceptionVerdict.OWED_IN_PART
    study = first.study_instance_uid
    assert f"`mini-pacs deliveries resend --route pacs --study {study}`" in operate("status")
    operate("deliveries", "resend", "--route", "pacs", "--study", study, "--yes")
    for delivery in (*ids, *ids):
        forward_to_pacs(core.context, delivery)
    assert digests(pacs) == [first.digest, second.digest, second.digest, first.digest]
    assert "resend --route pacs" not in operate("status")
    assert [state(core, delivery) for delivery in ids] == ["delivered"] * 2


def test_a_repeat_that_was_not_forwarded_is_no_newer_than_what_came_after_it(
    core: Forwarding, pacs: Peer
) -> None:
    """A, B, A, C: after all are sent again, the peer ends with C."""
    (first, second), ids = versions(core)
    for delivery in ids:
        forward_to_pacs(core.context, delivery)
    core.receive(first, origin=Origin.PERHAPS_ARCHIVE)
    third = replace(second, payload=b"\x07\x08" * 256)
    ids.append(owed(core, third))
    forward_to_pacs(core.context, ids[2])
    operate("deliveries", "resend", "--route", "pacs", "--study", first.study_instance_uid, "--yes")
    for delivery in (*ids, *ids, *ids):
        forward_to_pacs(core.context, delivery)
    assert digests(pacs)[-1] == third.digest


def test_a_parked_delivery_is_woken_past_one_that_waits_for_its_version(core: Forwarding) -> None:
    """A repeat made one version the newest, so it waits for the other; a wake-up of it would be lost."""
    _, (waiting, _) = versions(core)
    other = owed(core, Instance())
    core.edge.run(
        "UPDATE deliveries SET owed_order = nextval('deliveries_id_seq') WHERE id = %(id)s", id=waiting
    )
    core.edge.run(
        "UPDATE deliveries SET parked_for = 'ORTHANC', next_attempt_at = now() + interval '1 hour'"
        " WHERE id IN (%(waiting)s, %(other)s)",
        waiting=waiting,
        other=other,
    )
    assert core.edge.one("SELECT call_parked('ORTHANC', 1)") == 1
    assert core.edge.one("SELECT next_attempt_at <= now() FROM deliveries WHERE id = %(id)s", id=other)
