"""Results and originals that are wrong: late, missing, without a source, under one UID, for no archive."""

from gateway.database.tables import decisions
from gateway.database.tables.decisions import Decided
from gateway.domain.instance import Kind
from gateway.domain.routing import Route, Target
from gateway.rules.language import parse
from support.broken_edges.case import Breaking, case
from support.forwarding import ask
from support.healthy_edge import HealthyEdge
from support.prepared_instances import PreparedInstances
from support.synthetic_instances import Instance


@case("worker.silent:", "returned no result", ("calling_ae_titles", "destinations pause"))
def workers_return_nothing(edge: HealthyEdge) -> Breaking:
    """They answer C-STORE with Success, and return nothing."""
    for _ in range(20):
        ask(edge.core, Instance())
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")
    edge.edge.run(
        "UPDATE expected_results SET state = 'timed_out', due_at = now() - interval '1 minute',"
        " asked_at = now() - interval '10 minutes'"
    )
    yield
    edge.edge.run("UPDATE expected_results SET state = 'arrived', arrived_at = now()")


@case("worker.late:APP01", ("after their deadline", "the slowest after 20.0 s"), "worker_timeout_seconds")
def worker_is_late(edge: HealthyEdge) -> Breaking:
    """It needs 20 s for each result, and the deadline is shorter."""
    for _ in range(6):
        ask(edge.core, Instance())
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")
    edge.edge.run(
        "UPDATE expected_results SET worker = 'APP01', state = 'late',"
        " asked_at = now() - interval '30 s', arrived_at = now() - interval '10 s'"
    )
    yield
    edge.edge.run("UPDATE expected_results SET state = 'arrived'")


@case("results.given_up", "got no result from any worker", "deliveries resend --route workers")
def results_given_up(edge: HealthyEdge) -> Breaking:
    """No worker returned a result in time, and none is asked any more."""
    ask(edge.core, Instance())
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")
    edge.edge.run("UPDATE expected_results SET state = 'timed_out'")
    yield
    edge.edge.run("UPDATE expected_results SET state = 'arrived', arrived_at = now()")


def _received(edge: HealthyEdge, count: int, *, kind: Kind = Kind.ORIGINAL, sender: str = "CT1") -> list[int]:
    """Keep instances of that sender that are owed to no target; return their ids."""
    prepared = PreparedInstances(edge.dsn, edge.configuration)
    first = edge.edge.one("SELECT coalesce(max(id), 0) FROM instances")
    ids = [prepared.receive(first + number, kind=kind, sender=sender) for number in range(1, count + 1)]
    edge.edge.run("DELETE FROM deliveries")
    prepared.database.close()
    return ids


@case("results.stray:APP01@127.0.0.1", "name no source that is known here", "results list --unmatched")
def results_of_instances_that_nobody_sent(edge: HealthyEdge) -> Breaking:
    """A worker returns results that name other UIDs than those of the images that it got."""
    _received(edge, 4, kind=Kind.RESULT, sender="APP01")
    edge.edge.run("UPDATE instances SET correlation = 'unmatched' WHERE kind = 'result'")
    yield
    edge.edge.run("UPDATE instances SET correlation = 'references' WHERE kind = 'result'")


@case("instances.conflict:CT1@127.0.0.1", "4 versions of one SOP Instance UID", "instances list --conflict")
def one_uid_for_several_images(edge: HealthyEdge) -> Breaking:
    """A scanner gives several images one UID."""
    ids = _received(edge, 4)
    edge.edge.run(
        "UPDATE instances SET conflict = true, sop_instance_uid = '1.2.3.4711' WHERE id = ANY (%(ids)s)",
        ids=ids,
    )
    yield
    edge.edge.run("UPDATE instances SET received_at = received_at - interval '2 hours'")


@case("instances.conflict:APP01@", ("3 results", "of another image"), ("UID of its own", "pause APP01"))
def results_under_the_uid_of_the_image(edge: HealthyEdge) -> Breaking:
    """A worker gives its results the SOP Instance UIDs of the images."""
    ids = _received(edge, 3)
    edge.edge.run(
        "UPDATE instances SET conflict = true, calling_ae_title = 'APP01' WHERE id = ANY (%(ids)s)", ids=ids
    )
    yield
    edge.edge.run("UPDATE instances SET received_at = received_at - interval '2 hours'")


@case(
    "rules.nowhere",
    ("all 3 instances", "ORTHANC accepts Modality (0008,0060) is MR"),
    ("rules explain", "config reload"),
)
def rules_that_nothing_meets(edge: HealthyEdge) -> Breaking:
    """The rule of the PACS is wrong, so every image is answered Success and goes to no archive."""
    rule = parse({"attribute": "Modality", "equals": "MR"})
    edge.configure_pacs(accepts=rule)
    rules = edge.configuration.forwarder.rules
    pacs = Target(Route.PACS, edge.configuration.forwarder.orthanc.ae_title)
    decided = [Decided(one, rules.digest, (), (pacs,), ()) for one in _received(edge, 3)]
    with edge.edge.database.transaction() as session:
        decisions.keep(session, decided, {rules.digest: rules.text})
    yield
    edge.restore()
