"""Deliveries that are dead or stand still, a fault that was left on, and messages that reach nobody."""

from gateway.config.operation import Notify, Webhook
from gateway.database.tables import faults, findings
from gateway.faults import Active, Name
from gateway.forward.deliver import forward_to_pacs
from support.broken_edges.case import Breaking, case
from support.healthy_edge import HealthyEdge
from support.prepared_instances import PreparedInstances
from support.synthetic_instances import Instance


@case("progress.ahead:pacs", ("wait until", "clock of PostgreSQL"), "deliveries retry --state pending")
def deliveries_wait_until_tomorrow(edge: HealthyEdge) -> Breaking:
    """The clock of PostgreSQL was a day ahead when a delivery was tried."""
    delivery = edge.core.owed(Instance())
    wait = "UPDATE deliveries SET next_attempt_at = now() + interval '1 day' WHERE id = %(id)s"
    edge.edge.run(wait, id=delivery)
    finding = yield
    edge.apply(finding)
    edge.edge.run("UPDATE deliveries SET state = 'cancelled'")


@case("notify.failing:webhook", "no answer within 10 s", ("notify.webhook.url", "notify test"))
def nobody_is_told(edge: HealthyEdge) -> Breaking:
    """The webhook hangs, so the messages that tell of other findings reach nobody."""
    notify = Notify(webhook=Webhook(url="http://127.0.0.1:1/"))
    edge.configuration = edge.configuration.model_copy(update={"notify": notify})
    with edge.edge.database.statement() as session:
        findings.note_endpoint(session, "webhook", "no answer within 10 s")
    yield
    with edge.edge.database.statement() as session:
        findings.note_endpoint(session, "webhook", "")
    edge.restore()


@case(
    "deliveries.dead:pacs", ("dead", "0xA900 (Error: data set does not match SOP Class)"), "deliveries retry"
)
def delivery_dead(edge: HealthyEdge) -> Breaking:
    """The PACS refused an instance until it was given up."""
    edge.pacs.answer = lambda _: 0xA900
    delivery = edge.core.owed(Instance())
    for _ in range(3):
        edge.core.due()
        forward_to_pacs(edge.core.context, delivery)
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'workers'")
    finding = yield
    edge.pacs.answer = lambda _: 0
    edge.apply(finding)


@case(
    "progress.stands:pacs",
    ("deliveries to pacs wait", "nothing was ever delivered"),
    "dramatiq actors -Q pacs",
)
def nothing_moves(edge: HealthyEdge) -> Breaking:
    """Deliveries are due, and their actor process takes none."""
    edge.core.owed(Instance())
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'workers'")
    edge.edge.run("UPDATE deliveries SET next_attempt_at = now() - interval '2 minutes' WHERE route = 'pacs'")
    yield
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")


@case("progress.slow:pacs", ("a minute arrive", "ORTHANC is the bottleneck"), "make ORTHANC faster")
def pacs_slower_than_what_arrives(edge: HealthyEdge) -> Breaking:
    """The PACS took one of 40 instances, and needed 2 s for it."""
    prepared = PreparedInstances(edge.dsn, edge.configuration)
    for number in range(7000, 7040):
        last = prepared.receive(number)
    prepared.forward(last)
    prepared.database.close()
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'workers'")
    edge.edge.run("UPDATE deliveries SET next_attempt_at = now() - interval '40 s' WHERE state = 'pending'")
    edge.edge.run("UPDATE attempts SET duration_ms = 60000")
    yield
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE state = 'pending'")


@case("fault:pacs_down", "pacs_down is injected", "clear-faults pacs_down")
def fault_left_on(edge: HealthyEdge) -> Breaking:
    """Somebody injected a fault and forgot it."""
    with edge.edge.database.statement() as session:
        faults.inject(session, Active(Name.PACS_DOWN, None, None), duration=None, by="bob@ct")
    finding = yield
    edge.apply(finding)
