"""Versions of one SOP Instance UID at a destination.

The later one waits, and is the last one stored there.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg2
import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, at_once, forwarding
from support.peers import Peer
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until
from typer.testing import CliRunner

from cli.main import build
from gateway.database.tables import deliveries, destinations
from gateway.database.tables.deliveries import Selection
from gateway.database.tables.instances import ReceptionVerdict
from gateway.dicom.policy import Rejection, Requestor
from gateway.domain.contract import FORWARD
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Origin, Route
from gateway.forward.deliver import forward_to_pacs, forward_to_worker
from gateway.sweep.reconcile import reconcile
from gateway.sweep.rescue import rescue

pytestmark = pytest.mark.guarantee("G4")
LARGE = b"\x01\x02" * 600_000


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core without its processes; the sweep has no grace period, a refused instance waits long."""
    edge = make_edge(
        {
            "forwarder": {"max_retries": 3, "backoff_base_seconds": 600, "backoff_max_seconds": 600},
            "sweep": {"reconcile_grace_seconds": 0.01},
        }
    )
    with forwarding(edge) as core:
        yield core


def versions(
    core: Forwarding, route: Route = Route.PACS, *, count: int = 2
) -> tuple[list[Instance], list[int]]:
    """Versions of a new UID, received one after the other, and the ids of their deliveries."""
    first = Instance()
    more = [
        Instance(first.sop_instance_uid, first.study_instance_uid, payload=bytes([n, n]) * 256)
        for n in range(1, count)
    ]
    instances = [first, *more]
    return instances, [owed(core, instance, route) for instance in instances]


def owed(core: Forwarding, instance: Instance, route: Route = Route.PACS) -> int:
    """Return the id of the delivery of this very version."""
    kept, _ = core.receive(instance)
    return int(
        core.edge.one(
            "SELECT id FROM deliveries WHERE instance_id = %(id)s AND route = %(route)s::route",
            id=kept.instance_id,
            route=route.value,
        )
    )


def state(core: Forwarding, delivery: int) -> str:
    """Return the state of that delivery."""
    return str(core.edge.one("SELECT state::text FROM deliveries WHERE id = %(id)s", id=delivery))


def messages(core: Forwarding, delivery: int) -> int:
    """How many messages wait for it."""
    return int(
        core.edge.one(
            "SELECT count(*) FROM dramatiq.queue WHERE delivery_id = %(id)s AND state = 'queued'", id=delivery
        )
    )


def take_messages(core: Forwarding) -> None:
    """Every message was consumed and acked."""
    core.edge.run("DELETE FROM dramatiq.queue")


def digests(pacs: Peer) -> list[str]:
    """Return the digests that the PACS answered with Success, in that order."""
    return [taken.digest for taken in pacs.taken if taken.status == 0]


def requeue(core: Forwarding, delivery: int) -> None:
    """Send it again as an operator."""
    with core.edge.database.transaction() as session:
        done = deliveries.requeue(
            session, Selection(delivery_id=delivery), of=(State.DEAD, State.CANCELLED, State.DELIVERED)
        )
    assert len(done) == 1


def operate(*words: str) -> str:
    """Return what a command prints."""
    result = CliRunner().invoke(build(words[0]), list(words))
    assert result.exit_code == 0, result.output
    return result.output


# ---- the later one waits ---------------------------------------------------------------------------


def test_the_later_version_waits_for_the_earlier_one(core: Forwarding, pacs: Peer) -> None:
    """Its message ends without work.

    The settle of the earlier version enqueues it, in the same transaction.
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
    for waits in (two, two):  # before it was tried, and after
        shown = " ".join(operate("deliveries", "show", str(waits)).split())
        assert f"waits for version 1 (delivery {one})" in shown
        assert f'"waits_for": {one}' in operate("deliveries", "list", "--delivery", str(two), "--json")
        assert reason in operate("status", "--study", first.study_instance_uid, "--json")
        forward_to_pacs(core.context, two)
    assert "waits for version" not in operate("deliveries", "show", str(one))


def test_three_versions_are_sent_one_after_the_other(core: Forwarding, pacs: Peer) -> None:
    """Whichever message runs first; each settle wakes the next version only."""
    instances, ids = versions(core, count=3)
    take_messages(core)
    for delivery in reversed(ids[1:]):
        assert forward_to_pacs(core.context, delivery) is None
    for delivery in ids:
        assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    assert digests(pacs) == [instance.digest for instance in instances]


def test_a_version_in_backoff_is_waited_for(core: Forwarding, pacs: Peer) -> None:
    """For its minutes too; then both are sent, in order."""
    (first, second), (one, two) = versions(core)
    pacs.answer = lambda _: 0xA700
    assert forward_to_pacs(core.context, one) is Outcome.NOT_NOW
    pacs.answer = lambda _: 0
    assert forward_to_pacs(core.context, two) is None
    core.due()
    assert forward_to_pacs(core.context, one) is Outcome.DELIVERED
    assert forward_to_pacs(core.context, two) is Outcome.DELIVERED
    assert digests(pacs) == [first.digest, second.digest]


def _die(core: Forwarding, delivery: int) -> None:
    with core.edge.database.transaction() as session:
        claim = deliveries.claim(
            session,
            delivery,
            consumer=1,
            lease=core.edge.configuration.edge.duplicate_window,
            destination="ORTHANC",
        )
        assert claim is not None
    core.edge.run(
        "SELECT dramatiq.send('pacs', 'forward_to_pacs', jsonb_build_array(%(id)s), 4, now(), %(id)s)",
        id=delivery,
    )


def _bury(core: Forwarding, delivery: int) -> None:
    _die(core, delivery)
    core.edge.run(
        "UPDATE dramatiq.queue SET state = 'rejected', reason = 'three deaths' WHERE delivery_id = %(id)s",
        id=delivery,
    )


def _cancel(_: Forwarding, delivery: int) -> None:
    operate("deliveries", "cancel", "--delivery", str(delivery), "--yes")


def _refuse(core: Forwarding, delivery: int) -> None:
    core.edge.run("UPDATE deliveries SET refusals = 99 WHERE id = %(id)s", id=delivery)
    assert forward_to_pacs(core.context, delivery) is Outcome.REFUSED


@pytest.mark.parametrize(
    ("end", "ends"),
    [(_cancel, "cancelled"), (_refuse, "dead"), (_bury, "dead")],
    ids=["cancelled", "refused", "its message died"],
)
def test_the_later_version_is_sent_however_the_earlier_ended(
    core: Forwarding, pacs: Peer, end: Callable[[Forwarding, int], None], ends: str
) -> None:
    """Each end of the earlier enqueues the later one."""
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
    """By its own message, or by the sweep once its lease is over."""
    (first, second), (one, two) = versions(core)
    _die(core, one)
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
    """Never a version that waits, however long."""
    _, (one, two) = versions(core)
    core.edge.run(
        "UPDATE deliveries SET next_attempt_at = now() - interval '1 hour' WHERE id = %(id)s", id=two
    )
    forward_to_pacs(core.context, two)
    core.edge.run("UPDATE destinations SET breaker = 'open', next_probe_at = now() WHERE route = 'pacs'")
    ae_title = core.edge.configuration.forwarder.orthanc.ae_title
    with core.edge.database.transaction() as session:
        assert destinations.choose_probes(session, ae_title) == [one]


# ---- an older one that comes last ------------------------------------------------------------------


def test_an_older_version_that_is_sent_again_is_followed_by_the_newest(core: Forwarding, pacs: Peer) -> None:
    """After an operator's retry or resend of one delivery; with a message, and shown with its reason."""
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
    """Each version once."""
    (first, second), ids = versions(core)
    for delivery in ids:
        forward_to_pacs(core.context, delivery)
    for delivery in ids:
        requeue(core, delivery)
    for delivery in (ids[1], ids[0], ids[1], ids[0]):
        forward_to_pacs(core.context, delivery)
    assert digests(pacs) == [first.digest, second.digest] * 2


def test_a_late_end_of_an_older_version_sends_the_newest_again(core: Forwarding, pacs: Peer) -> None:
    """Its process was stopped with all bytes sent; another sent it meanwhile, and then the newer one."""
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
    """Nobody knows then which of both the PACS stored last."""
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
    """The newest is sent again: the older one's process died after its claim, before its settle."""
    _, (one, two) = versions(core)
    core.edge.run(
        "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), lease_until = now()"
    )
    core.edge.run(
        "UPDATE deliveries SET state = 'delivered', claim_id = NULL, lease_until = NULL, settled_at = now()"
    )
    requeue(core, one)
    _die(core, one)
    core.edge.run("UPDATE deliveries SET lease_until = now() - interval '1 s' WHERE state = 'in_flight'")
    rescue(core.sweeping())
    take_messages(core)
    _cancel(core, one)
    assert (state(core, one), state(core, two), messages(core, two)) == ("cancelled", "pending", 1)


@pytest.mark.usefixtures("pacs")
def test_a_cancelled_retry_that_was_never_claimed_sends_nothing(core: Forwarding) -> None:
    """The older version cannot have arrived again."""
    _, (one, two) = versions(core)
    for delivery in (one, two):
        forward_to_pacs(core.context, delivery)
    requeue(core, one)
    _cancel(core, one)
    assert state(core, two) == "delivered"


@pytest.mark.parametrize("when", ["pending", "in flight", "delivered", "cancelled"])
def test_a_repeat_of_an_older_version_becomes_the_newest(core: Forwarding, pacs: Peer, when: str) -> None:
    """A, B, A: the PACS ends with A, whatever the state of the first A."""
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
            _cancel(core, one)
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


# ---- what it costs ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("pacs")
def test_an_instance_with_one_version_calls_no_version_function(core: Forwarding) -> None:
    """From its reception to its settle."""
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
    """One function holds their names."""
    found = core.edge.rows("SELECT r::text, forward_actor(r) FROM unnest(enum_range(NULL::route)) AS r")
    assert dict(found) == {route.value: FORWARD[route].actor_name for route in Route}


def test_a_repeat_of_an_older_version_that_may_be_from_the_pacs_is_shown_and_can_be_forwarded(
    core: Forwarding, pacs: Peer
) -> None:
    """A, B, A under the AE title of the PACS: it may be the PACS, so an operator is told, and decides."""
    (first, second), ids = versions(core)
    for delivery in ids:
        forward_to_pacs(core.context, delivery)
    kept, _ = core.receive(first, origin=Origin.PERHAPS_PACS)
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
    """A, B, A, C: whoever sends all again ends with C."""
    (first, second), ids = versions(core)
    for delivery in ids:
        forward_to_pacs(core.context, delivery)
    core.receive(first, origin=Origin.PERHAPS_PACS)
    third = replace(second, payload=b"\x07\x08" * 256)
    ids.append(owed(core, third))
    forward_to_pacs(core.context, ids[2])
    operate("deliveries", "resend", "--route", "pacs", "--study", first.study_instance_uid, "--yes")
    for delivery in (*ids, *ids, *ids):
        forward_to_pacs(core.context, delivery)
    assert digests(pacs)[-1] == third.digest
