"""Senders that the edge refuses."""

from gateway.domain.refusal import Reason
from support.broken_edges.case import Breaking, case
from support.healthy_edge import HealthyEdge

PRIVATE = "1.2.826.0.1.3680043.8.498.4711"
"""The UID of a private SOP Class."""


@case(
    "refused.calling_ae_title:CT2@",
    ("CT2 at 10.1.2.3 is not in edge.allowed_calling_aets", "rejected 6 times"),
    ("CT2@10.1.2.3", "mini-pacs config reload"),
)
def sender_unknown(edge: HealthyEdge) -> Breaking:
    """A modality was installed, and nobody told the edge."""
    edge.refuse(Reason.CALLING_AE_TITLE, "CT2", "10.1.2.3", count=6)
    yield
    allowed = (*edge.configuration.edge.allowed_calling_aets, "CT2@10.1.2.3")
    edge.configure_edge(allowed_calling_aets=allowed)


@case(
    "refused.called_ae_title:CT1@",
    ("CT1 at 10.1.2.4", "called another AE title"),
    "call MINI_EDGE, not OLD_EDGE",
)
def sender_calls_another_title(edge: HealthyEdge) -> Breaking:
    """A modality calls the edge by its old title."""
    edge.refuse(Reason.CALLED_AE_TITLE, "CT1", "10.1.2.4", called="OLD_EDGE")
    yield
    edge.edge.run("DELETE FROM refusals")


@case("refused.cannot_understand:CT1@", ("could not be read", "(0010,0020)"), "vendor of the sender")
def instance_unreadable(edge: HealthyEdge) -> Breaking:
    """A modality sends what cannot be parsed."""
    edge.refuse(Reason.CANNOT_UNDERSTAND, "CT1", "10.1.2.4", detail="the element (0010,0020) is cut off")
    yield
    edge.edge.run("DELETE FROM refusals")


@case("refused.sop_class:CT1@", ("does not accept", "declined"), "edge.additional_sop_classes")
def sop_class_declined(edge: HealthyEdge) -> Breaking:
    """A modality offers only what the edge does not accept."""
    edge.refuse(Reason.SOP_CLASS, "CT1", "10.1.2.4", detail=f"{PRIVATE} in Explicit VR: not accepted")
    yield
    edge.configure_edge(additional_sop_classes=(PRIVATE,))
    assert edge.examine().findings == []
    edge.restore()
    edge.edge.run("DELETE FROM refusals")


@case("refused.limit_of_peer:CT1@", "edge.max_associations_per_peer allows", "edge.max_associations_per_peer")
def sender_at_its_limit(edge: HealthyEdge) -> Breaking:
    """A modality does not release its associations."""
    edge.refuse(Reason.LIMIT_OF_PEER, "CT1", "10.1.2.4")
    yield
    edge.edge.run("DELETE FROM refusals")


@case(
    "refused.calling_ae_title:AISCU@",
    ("these are its results", "APP01"),
    ("calling_ae_titles of APP01", "AISCU@10.1.2.9"),
)
def worker_calls_by_another_title(edge: HealthyEdge) -> Breaking:
    """The results of a worker come under a title that is rejected."""
    edge.configure_worker(host="10.1.2.9")
    edge.refuse(Reason.CALLING_AE_TITLE, "AISCU", "10.1.2.9")
    yield
    edge.edge.run("DELETE FROM refusals")
    edge.restore()


@case("refused.malformed:CT1@", ("PS3.8 or PS3.7 forbids", "aborted 3 times"), "vendor of the sender")
def sender_breaks_its_associations(edge: HealthyEdge) -> Breaking:
    """A modality that is let in violates the standard each time."""
    edge.refuse(
        Reason.MALFORMED, "CT1", "10.1.2.4", detail="presentation context 99 was not accepted", count=3
    )
    yield
    edge.edge.run("DELETE FROM refusals")
