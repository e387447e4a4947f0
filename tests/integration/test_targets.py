"""Several archives and several applications: what an instance is owed to, and who gets it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, forwarding
from support.synthetic_instances import Instance, result_of
from support.targets import hospital, owed, peers_of

from gateway.database.tables import deliveries, destinations, results, turns
from gateway.domain.contract import FORWARD
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Origin, Route
from gateway.forward.deliver import forward_to_archive, forward_to_pacs, forward_to_worker
from gateway.sweep.expire import expire_one

ALL = {"pacs ORTHANC", "archives VNA", "archives RES", "workers chest-ct", "workers any-mr"}
PACS_AND_VNA = {"pacs ORTHANC", "archives VNA"}
MESSAGES = """
SELECT q.queue_name, q.message->>'actor_name' FROM dramatiq.queue q JOIN deliveries d ON d.id = q.delivery_id
JOIN instances i ON i.id = d.instance_id WHERE i.sop_instance_uid = %(uid)s ORDER BY d.id
"""
DELIVERY = """
SELECT d.id FROM deliveries d JOIN instances i ON i.id = d.instance_id
WHERE i.sop_instance_uid = %(uid)s AND d.target = %(target)s ORDER BY i.id DESC LIMIT 1
"""
ASKED = "SELECT worker FROM expected_results WHERE state = 'owed' ORDER BY worker"


def delivery(core: Forwarding, instance: Instance, target: str) -> int:
    """Return the delivery of the newest version of an instance to a target."""
    return int(core.edge.one(DELIVERY, uid=instance.sop_instance_uid, target=target))


def test_an_original_is_owed_to_every_target_and_a_result_to_archives(make_edge: MakeEdge) -> None:
    """Each delivery has its message in the queue of its target; RES takes no results."""
    with forwarding(hospital(make_edge)) as core:
        source = Instance()
        core.receive(source)
        assert owed(core.edge, source) == dict.fromkeys(ALL, "pending")
        assert core.edge.rows(MESSAGES, uid=source.sop_instance_uid) == [
            (target.queue, FORWARD[target.route].actor_name)
            for target in core.edge.configuration.forwarder.targets.all
        ]
        result = result_of(source)
        core.receive(result, worker="APP01")
        assert owed(core.edge, result) == dict.fromkeys(PACS_AND_VNA, "pending")
        repeated = core.received(result, origin=Origin.SENDER)
        core.registration().register_one(repeated)
        assert set(owed(core.edge, result)) == PACS_AND_VNA


def test_what_a_rule_refused_for_one_reception_is_not_refused_for_others_of_its_batch(
    make_edge: MakeEdge,
) -> None:
    """A new version of a result goes to VNA, also beside an instance that VNA does not get."""
    with forwarding(hospital(make_edge)) as core:
        result = result_of(Instance())
        core.receive(result, worker="APP01")
        batch = [core.received(replace(result, payload=b"\x05\x05")), core.received(Instance())]
        uids = sorted(one.envelope.sop_instance_uid for one in batch)
        [vna] = [one for one in core.edge.configuration.forwarder.targets.all if one.name == "VNA"]
        for one in batch:
            if one.envelope.sop_instance_uid != result.sop_instance_uid:
                one.envelope = one.envelope._replace(
                    # It is registered first, because its UID is the smaller one.
                    sop_instance_uid=f"1.{min(uids)}",
                    targets=tuple(target for target in one.envelope.targets if target != vna),
                    refused=(vna,),
                )
        assert core.registration().register(batch) == []
        assert set(owed(core.edge, result)) == PACS_AND_VNA
        assert core.edge.one("SELECT count(*) FROM deliveries WHERE target = 'VNA'") == 2


def test_each_target_gets_its_own_attempt(make_edge: MakeEdge) -> None:
    """The archives take it each; each application asks one of its own workers."""
    edge = hospital(make_edge)
    with forwarding(edge) as core, peers_of(edge) as peers:
        instance = Instance()
        core.receive(instance)
        assert forward_to_pacs(core.context, delivery(core, instance, "ORTHANC")) is Outcome.DELIVERED
        for title in ("VNA", "RES"):
            assert forward_to_archive(core.context, delivery(core, instance, title)) is Outcome.DELIVERED
        for name in ("chest-ct", "any-mr"):
            assert forward_to_worker(core.context, delivery(core, instance, name)) is Outcome.DELIVERED
        assert owed(edge, instance) == dict.fromkeys(ALL, "delivered")
        assert [len(peers[title].taken) for title in ("ORTHANC", "VNA", "RES")] == [1, 1, 1]
        assert sum(len(peers[title].taken) for title in ("APP01", "APP02")) >= 1
        assert sum(len(peers[title].taken) for title in ("APP01", "APP02", "APP03")) == 2
        core.context.associations.close()


def test_a_worker_of_two_applications_counts_what_it_owes_to_both(make_edge: MakeEdge) -> None:
    """`any-mr` gives a worker one instance at a time, also one that APP02 has for `chest-ct`."""
    edge = hospital(make_edge)
    with forwarding(edge) as core, peers_of(edge):
        edge.run("UPDATE destinations SET paused = true WHERE ae_title IN ('APP01', 'APP03')")
        first, second = Instance(), Instance()
        core.receive(first)
        core.receive(second)
        forward_to_worker(core.context, delivery(core, first, "chest-ct"))
        assert edge.one("SELECT dramatiq.room('workers.chest-ct', 100)") == 7
        assert edge.one("SELECT dramatiq.room('workers.any-mr', 100)") == 0
        assert forward_to_worker(core.context, delivery(core, second, "any-mr")) is None
        assert edge.rows(ASKED) == [("APP02",)]
        core.context.associations.close()


def test_a_result_satisfies_every_application_that_its_worker_serves(make_edge: MakeEdge) -> None:
    """APP02 got the source for both applications, and answers once."""
    edge = hospital(make_edge)
    with forwarding(edge) as core, peers_of(edge):
        edge.run("UPDATE destinations SET paused = true WHERE ae_title IN ('APP01', 'APP03')")
        source = Instance()
        core.receive(source)
        forward_to_worker(core.context, delivery(core, source, "any-mr"))
        forward_to_worker(core.context, delivery(core, source, "chest-ct"))
        assert edge.rows(ASKED) == [("APP02",), ("APP02",)]
        core.receive(result_of(source), worker="APP02")
        assert edge.rows("SELECT state::text FROM expected_results") == [("arrived",), ("arrived",)]
        core.context.associations.close()


def test_another_worker_of_the_same_application_is_asked(make_edge: MakeEdge) -> None:
    """A redispatch stays within the application, and follows its limits."""
    edge = hospital(make_edge)
    with forwarding(edge) as core, peers_of(edge):
        source = Instance()
        core.receive(source)
        forward_to_worker(core.context, delivery(core, source, "any-mr"))
        first = edge.one("SELECT worker FROM expected_results")
        for expectation in core.overdue():
            expire_one(edge.configuration, edge.database, core.context.wakeup, expectation)
        forward_to_worker(core.context, delivery(core, source, "any-mr"))
        assert {first, *[row[0] for row in edge.rows(ASKED)]} == {"APP02", "APP03"}
        core.context.associations.close()


def test_versions_reach_each_archive_in_their_order(make_edge: MakeEdge) -> None:
    """The second version waits for the first one at its own archive, and not at the others."""
    edge = hospital(make_edge, mode="pacs_only")
    with forwarding(edge) as core, peers_of(edge) as peers:
        first = Instance()
        second = Instance(first.sop_instance_uid, first.study_instance_uid, payload=b"\x02" * 512)
        core.receive(first)
        older = {title: delivery(core, first, title) for title in ("VNA", "RES")}
        core.receive(second)
        newer = {title: delivery(core, first, title) for title in ("VNA", "RES")}
        assert older["VNA"] != newer["VNA"]
        assert forward_to_archive(core.context, newer["VNA"]) is None
        assert forward_to_archive(core.context, older["RES"]) is Outcome.DELIVERED
        assert forward_to_archive(core.context, newer["RES"]) is Outcome.DELIVERED
        assert forward_to_archive(core.context, older["VNA"]) is Outcome.DELIVERED
        assert forward_to_archive(core.context, newer["VNA"]) is Outcome.DELIVERED
        for title in ("VNA", "RES"):
            assert [one.digest for one in peers[title].taken] == [first.digest, second.digest]
        core.context.associations.close()


def test_what_an_archive_sends_back_goes_to_no_archive_again(make_edge: MakeEdge) -> None:
    """Two archives that send on all they get make no circle, also without a duplicate window."""
    edge = hospital(make_edge, window=0)
    with forwarding(edge) as core, peers_of(edge):
        instance = Instance()
        core.receive(instance)
        for title in ("VNA", "RES"):
            forward_to_archive(core.context, delivery(core, instance, title))
        forward_to_pacs(core.context, delivery(core, instance, "ORTHANC"))
        edge.run("UPDATE deliveries SET settled_at = now() - interval '1 year' WHERE state = 'delivered'")
        core.receive(instance, origin=Origin.ARCHIVE)
        states = owed(edge, instance)
        assert {states[target] for target in states if not target.startswith("workers")} == {"delivered"}
        core.receive(instance, origin=Origin.SENDER)
        assert set(owed(edge, instance).values()) == {"pending"}
        core.context.associations.close()


@pytest.mark.parametrize("title", ["VNA", "ORTHANC"])
def test_a_delivery_to_an_archive_that_is_gone_stays_pending(make_edge: MakeEdge, title: str) -> None:
    """Without VNA in config.yaml nothing claims it; the PACS may change its title."""
    edge = hospital(make_edge, mode="pacs_only")
    with forwarding(edge) as core, peers_of(edge) as peers:
        instance = Instance()
        core.receive(instance)
        edge.run("UPDATE deliveries SET target = 'OLD' WHERE target = %(title)s", title=title)
        route = Route.PACS if title == "ORTHANC" else Route.ARCHIVES
        if route is Route.PACS:
            edge.run("UPDATE destinations SET ae_title = 'OLD' WHERE ae_title = 'ORTHANC'")
            with edge.database.transaction() as session:
                destinations.configure(session, edge.configuration)
            assert "pacs ORTHANC" in owed(edge, instance)
            assert forward_to_pacs(core.context, delivery(core, instance, "ORTHANC")) is Outcome.DELIVERED
        else:
            assert edge.one("SELECT dramatiq.room('archives.OLD', 5)") == 0
            assert forward_to_archive(core.context, delivery(core, instance, "OLD")) is None
            assert owed(edge, instance)["archives OLD"] == "pending"
            assert not peers["VNA"].taken
        core.context.associations.close()


def test_the_application_of_an_expected_result_is_known(make_edge: MakeEdge) -> None:
    """So its own limits apply at the deadline."""
    edge = hospital(make_edge)
    with forwarding(edge) as core, peers_of(edge):
        source = Instance()
        core.receive(source)
        forward_to_worker(core.context, delivery(core, source, "chest-ct"))
        [(expectation, seconds)] = edge.rows(
            "SELECT id, extract(epoch FROM due_at - now()) FROM expected_results"
        )
        assert 590 < seconds <= 600
        with edge.database.statement() as session:
            assert results.application_of(session, expectation) == "chest-ct"
        core.context.associations.close()


def test_a_parked_delivery_waits_in_the_queue_of_its_archive(make_edge: MakeEdge) -> None:
    """Its message names the actor of archives: that of the PACS would send it there, and count it as done."""
    edge = hospital(make_edge, mode="pacs_only")
    with forwarding(edge) as core:
        instance = Instance()
        core.receive(instance)
        parked = delivery(core, instance, "VNA")
        with edge.database.transaction() as session:
            claim = deliveries.claim(
                session,
                parked,
                consumer=core.context.consumer(),
                lease=timedelta(minutes=1),
                destination="VNA",
            )
            assert claim is not None
            assert turns.park(session, claim, "VNA", reason="waits", wait=timedelta()).settled
        sent = "SELECT queue_name, message->>'actor_name' FROM dramatiq.queue WHERE delivery_id = %(id)s"
        assert set(edge.rows(sent, id=parked)) == {("archives.VNA", "forward_to_archive")}


@pytest.mark.parametrize("versions", [1, 2])
def test_a_message_for_another_archive_sends_nothing(make_edge: MakeEdge, versions: int) -> None:
    """Also of a UID with several versions: the delivery stays pending for its own archive."""
    edge = hospital(make_edge, mode="pacs_only")
    with forwarding(edge) as core, peers_of(edge) as peers:
        first = Instance()
        for number in range(versions):
            core.receive(
                Instance(first.sop_instance_uid, first.study_instance_uid, payload=bytes([number, 2]) * 9)
            )
        [(oldest,), *_] = edge.rows("SELECT id FROM deliveries WHERE target = 'VNA' ORDER BY id")
        assert forward_to_pacs(core.context, oldest) is None
        assert not peers["ORTHANC"].taken
        assert forward_to_archive(core.context, oldest) is Outcome.DELIVERED
        core.context.associations.close()
