"""A PACS that refuses associations: for the proposed contexts, for our AE title, or temporarily."""

from collections.abc import Callable, Iterator

import pytest
from conftest import MakeEdge
from support.forwarding import QUICK, Forwarding, forwarding
from support.peers import Peer
from support.synthetic_instances import CT, EXPLICIT, MR, SECONDARY_CAPTURE, Instance

from gateway.dicom import pdu
from gateway.dicom.contexts import VERIFICATION, Offer
from gateway.dicom.policy import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    TEMPORARY_CONGESTION,
    Rejection,
)
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.forward.deliver import forward_to_pacs
from gateway.forward.probe import probe

pytestmark = pytest.mark.guarantee("G2")

REJECTED = pdu.reject_pdu(1, 1, 1)
REFUSALS = {"rejects": REJECTED, "aborts": pdu.abort_pdu(pdu.SERVICE_PROVIDER, 0), "hangs up": b""}
BREAKER = "SELECT breaker::text FROM destinations WHERE ae_title = 'ORTHANC'"
REASON = "SELECT reason FROM destinations WHERE ae_title = 'ORTHANC'"


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process."""
    with forwarding(make_edge({"forwarder": {**QUICK, "mode": "pacs_only"}})) as core:
        yield core


def unless_one_is(*sop_classes: str, answer: bytes = REJECTED) -> Callable[[tuple[Offer, ...]], bytes | None]:
    """Refuse an association that proposes none of these."""

    def refuse(offers: tuple[Offer, ...]) -> bytes | None:
        return None if any(offer.abstract_syntax_uid in sop_classes for offer in offers) else answer

    return refuse


def probe_now(core: Forwarding) -> bool:
    """Probe at once; return whether that closed the breaker."""
    core.edge.run("UPDATE destinations SET next_probe_at = now()")
    return probe(core.context, Route.PACS, "ORTHANC")


@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("taken", [(VERIFICATION, CT), (CT,)], ids=["with", "without Verification"])
def test_an_instance_whose_context_alone_is_refused_is_dead(
    core: Forwarding, pacs: Peer, how: str, taken: tuple[str, ...]
) -> None:
    """It is dead at once, with SOP Class and transfer syntax.

    The breaker stays closed, and others are delivered.
    """
    pacs.accepted_sop_classes = frozenset({CT})
    pacs.refuse = unless_one_is(*taken, answer=REFUSALS[how])
    bad, other, good = Instance(sop_class_uid=MR), Instance(sop_class_uid=MR), Instance()
    assert forward_to_pacs(core.context, core.owed(bad)) is Outcome.NEVER
    row = core.edge.delivery(bad)
    assert (row["state"], row["attempts"]) == ("dead", 1)
    assert f"{MR} in {EXPLICIT} was not accepted" in row["last_error"]
    assert core.edge.one(BREAKER) == "closed"
    assert forward_to_pacs(core.context, core.owed(other)) is Outcome.NEVER
    assert forward_to_pacs(core.context, core.owed(good)) is Outcome.DELIVERED
    assert not core.edge.log(outcome="breaker_opened")


def test_contexts_accepted_before_are_proposed_again(core: Forwarding, pacs: Peer) -> None:
    """The PACS takes one rare SOP Class only: no Verification, and no usual class."""
    rare = "1.2.840.10008.5.1.4.1.1.66.4"
    pacs.accepted_sop_classes = frozenset({rare})
    pacs.refuse = unless_one_is(rare)
    assert forward_to_pacs(core.context, core.owed(Instance(sop_class_uid=rare))) is Outcome.DELIVERED
    core.context.associations.close()
    again = core.actor()
    bad = Instance(sop_class_uid=MR)
    assert forward_to_pacs(again, core.owed(bad)) is Outcome.NEVER
    again.associations.close()
    assert core.edge.one(BREAKER) == "closed"


@pytest.mark.parametrize("rejection", [CALLING_AE_TITLE_NOT_RECOGNIZED, CALLED_AE_TITLE_NOT_RECOGNIZED])
def test_a_pacs_that_rejects_our_ae_title_counts_as_away(
    core: Forwarding, pacs: Peer, rejection: Rejection
) -> None:
    """No attempt is counted, nothing else is proposed, and the reason is shown in words."""
    pacs.rejection = rejection
    instance = Instance()
    assert forward_to_pacs(core.context, core.owed(instance)) is Outcome.AWAY
    assert pacs.associations == 1
    row = core.edge.delivery(instance)
    assert (row["state"], row["attempts"]) == ("pending", 0)
    assert "AE title not recognized" in row["last_error"]
    assert core.edge.one(BREAKER) == "open"
    assert not probe_now(core)


@pytest.mark.parametrize("how", REFUSALS)
def test_a_pacs_that_refuses_every_association_counts_as_away(core: Forwarding, pacs: Peer, how: str) -> None:
    """No delivery is dead, and everything arrives once the PACS accepts associations again."""
    pacs.refuse = lambda _: REFUSALS[how]
    instance = Instance()
    delivery = core.owed(instance)
    assert forward_to_pacs(core.context, delivery) is Outcome.AWAY
    assert core.edge.delivery(instance)["state"] == "pending"
    assert core.edge.delivery(instance)["attempts"] == 0
    assert not probe_now(core)
    pacs.refuse = None
    assert probe_now(core)
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED


@pytest.mark.parametrize("refuses", [True, False], ids=["by rejection", "in its answer"])
def test_a_pacs_that_accepts_no_storage_context_makes_nothing_dead(
    core: Forwarding, pacs: Peer, *, refuses: bool
) -> None:
    """The PACS may be misconfigured.

    Deliveries wait, its C-ECHO does not close the breaker, and all arrive afterwards.
    """
    pacs.accepted_sop_classes = frozenset()
    pacs.refuse = unless_one_is(VERIFICATION) if refuses else None
    instance = Instance()
    assert forward_to_pacs(core.context, core.owed(instance)) is Outcome.TAKES_NOTHING
    row = core.edge.delivery(instance)
    assert (row["state"], row["attempts"]) == ("pending", 0)
    assert "accepts no Storage SOP Class" in row["last_error"]
    for _ in range(3):
        probe_now(core)
        assert core.edge.one(BREAKER) == "open"
    assert core.edge.delivery(instance)["state"] == "pending"
    pacs.accepted_sop_classes = frozenset({CT})
    probe_now(core)
    assert core.edge.delivery(instance)["state"] == "delivered"
    assert core.edge.one(BREAKER) == "closed"


@pytest.mark.parametrize("how", REFUSALS)
def test_a_context_at_which_the_pacs_refuses_the_association_affects_its_own_instances_only(
    core: Forwarding, pacs: Peer, how: str
) -> None:
    """Other instances are sent without it; its own are dead after their retries."""
    pacs.refuse = lambda offers: (
        REFUSALS[how] if any(offer.abstract_syntax_uid == MR for offer in offers) else None
    )
    bad, good = Instance(sop_class_uid=MR), Instance(sop_class_uid=SECONDARY_CAPTURE)
    deliveries = [core.owed(bad), core.owed(good)]
    assert forward_to_pacs(core.context, deliveries[1]) is Outcome.DELIVERED
    core.context.associations.close()
    context = core.actor()
    for _ in range(2):
        core.due()
        assert forward_to_pacs(context, deliveries[0]) is Outcome.REFUSED
    context.associations.close()
    row = core.edge.delivery(bad)
    assert (row["state"], row["attempts"]) == ("dead", 2)
    assert f"{MR} in {EXPLICIT}" in row["last_error"]
    assert core.edge.one(BREAKER) == "closed"


def test_a_transient_rejection_makes_nothing_dead(core: Forwarding, pacs: Peer) -> None:
    """The PACS rejects everything temporarily: it counts as away, and no attempt is counted."""
    pacs.rejection = TEMPORARY_CONGESTION
    instance = Instance()
    assert forward_to_pacs(core.context, core.owed(instance)) is Outcome.AWAY
    assert core.edge.delivery(instance)["attempts"] == 0


def test_the_probe_of_a_pacs_without_verification_proposes_waiting_contexts(
    core: Forwarding, pacs: Peer
) -> None:
    """It rejects an association for Verification alone.

    The probe therefore proposes the contexts of the waiting deliveries.
    """
    pacs.rejection = TEMPORARY_CONGESTION
    instance = Instance()
    delivery = core.owed(instance)
    assert forward_to_pacs(core.context, delivery) is Outcome.AWAY
    assert not probe_now(core)
    pacs.rejection, pacs.refuse = None, unless_one_is(CT)
    assert probe_now(core)
    assert core.edge.one(BREAKER) == "closed"
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED


def test_the_newest_reason_is_shown(core: Forwarding, pacs: Peer) -> None:
    """The PACS is off, then on and rejects our title: reason and time are those of the last change."""
    pacs.off()
    assert forward_to_pacs(core.context, core.owed(Instance())) is Outcome.AWAY
    assert "Connection refused" in core.edge.one(REASON)
    pacs.rejection = CALLING_AE_TITLE_NOT_RECOGNIZED
    pacs.on()
    seen = []
    for _ in range(2):
        assert not probe_now(core)
        seen.append(core.edge.rows("SELECT reason, reason_at FROM destinations WHERE ae_title = 'ORTHANC'"))
    assert "calling AE title not recognized" in seen[0][0][0]
    assert seen[0] == seen[1]
    assert core.edge.one("SELECT reason_at > changed_at FROM destinations WHERE ae_title = 'ORTHANC'")
