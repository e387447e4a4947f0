"""`edge.accepted_transfer_syntaxes: as_archives`: senders are offered what every archive accepts."""

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.forwarding import forwarding
from support.synthetic_instances import CT, EXPLICIT, Instance
from support.targets import forwarder as section
from support.targets import owed, peers_of
from support.waiting import wait_until

from gateway.database.tables import syntaxes
from gateway.diagnosis.examine import examine
from gateway.dicom.contexts import IMPLICIT_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.contexts import ProposedContext
from gateway.domain.routing import Route
from gateway.domain.transfer_syntaxes import ASKED, common
from gateway.forward.deliver import forward_to_archive
from gateway.forward.inquiry import Inquiry, ask

JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
TITLES = ["ORTHANC", "VNA", "RES", "CT1", "APP01", "APP02", "APP03"]


def as_archives(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge with three archives that offers senders what these accept."""
    edge = {"allowed_calling_aets": TITLES, "accepted_transfer_syntaxes": "as_archives"}
    return make_edge({"edge": edge, "forwarder": section(mode="pacs_only")})


def known(edge: EdgeSetup) -> dict[str, set[str]]:
    """Return what each archive accepts, as it is written down."""
    with edge.database.statement() as session:
        rows = syntaxes.known(session, TITLES)
    return {
        title: {row.transfer_syntax_uid for row in rows if row.ae_title == title and row.accepted}
        for title in {row.ae_title for row in rows}
    }


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({}, ()),
        ({"VNA": {EXPLICIT, JPEG_LS}}, (EXPLICIT, JPEG_LS)),
        ({"VNA": {EXPLICIT, JPEG_LS}, "RES": {JPEG_2000, JPEG_LS}}, (JPEG_LS,)),
        ({"VNA": {EXPLICIT}, "RES": set()}, (EXPLICIT,)),
        ({"VNA": {EXPLICIT}, "RES": {IMPLICIT}}, ()),
    ],
)
def test_what_all_archives_accept(answers: dict[str, set[str]], expected: tuple[str, ...]) -> None:
    """In the order of preference; an archive without an answer limits nothing."""
    rows = [(title, uid, uid in accepted) for title, accepted in answers.items() for uid in ASKED]
    assert common(rows) == expected


def test_an_archive_is_asked_in_one_association(make_edge: MakeEdge) -> None:
    """All transfer syntaxes at once; nothing is sent."""
    edge = as_archives(make_edge)
    with peers_of(edge) as peers:
        peers["VNA"].contexts.transfer_syntaxes = (EXPLICIT, JPEG_LS)
        answers = ask(edge.configuration, edge.configuration.destination("VNA"))
        assert set(answers) == set(ASKED)
        assert {uid for uid, accepts in answers.items() if accepts} == {EXPLICIT, JPEG_LS}
        assert peers["VNA"].associations == 1
        assert not peers["VNA"].taken


def test_what_an_archive_answers_otherwise_is_logged(make_edge: MakeEdge) -> None:
    """Only what differs from its last answer; an archive that is away changes nothing."""
    edge = as_archives(make_edge)
    with forwarding(edge), peers_of(edge) as peers:
        inquiry = Inquiry(lambda: edge.configuration, edge.database, [Route.ARCHIVES])
        peers["VNA"].contexts.transfer_syntaxes = (EXPLICIT, JPEG_LS)
        assert inquiry.ask_all()
        assert known(edge) == {"VNA": {EXPLICIT, JPEG_LS}, "RES": set(ASKED)}
        assert edge.log(outcome="syntax_declined") == []
        peers["VNA"].contexts.transfer_syntaxes = (EXPLICIT,)
        peers["RES"].off()
        assert not inquiry.ask_all()
        assert known(edge) == {"VNA": {EXPLICIT}, "RES": set(ASKED)}
        [line] = edge.log(outcome="syntax_declined")
        assert (line["destination"], JPEG_LS in line["detail"]) == ("VNA", True)


def test_what_an_archive_does_not_accept_any_more_is_a_finding(make_edge: MakeEdge) -> None:
    """It names archive and transfer syntaxes, and ends when the archive accepts them again."""
    edge = as_archives(make_edge)

    def found() -> list[str]:
        examined = examine(edge.configuration, edge.dsn, asks_peers=False)
        return [one.what for one in examined.findings if one.key == "syntaxes.declined:VNA"]

    with forwarding(edge), peers_of(edge) as peers:
        inquiry = Inquiry(lambda: edge.configuration, edge.database, [Route.ARCHIVES])
        for accepted, is_shown in (
            ((EXPLICIT, JPEG_LS), False),  # what it never accepted is no finding
            ((EXPLICIT,), True),
            ((EXPLICIT, JPEG_LS), False),
        ):
            peers["VNA"].contexts.transfer_syntaxes = accepted
            assert inquiry.ask_all()
            whats = found()
            assert len(whats) == is_shown
            assert all(f"({JPEG_LS})" in what for what in whats)


def test_a_context_that_an_archive_declines_makes_the_edge_ask_it_again(make_edge: MakeEdge) -> None:
    """The delivery is dead, as before; the next sender is offered something else."""
    edge = as_archives(make_edge)
    asked = []
    with forwarding(edge) as core, peers_of(edge) as peers:
        object.__setattr__(core.context, "ask_archives", lambda: asked.append("asked"))
        peers["VNA"].contexts.transfer_syntaxes = (IMPLICIT,)
        instance = Instance()
        core.receive(instance)
        [(vna,)] = edge.rows("SELECT id FROM deliveries WHERE target = 'VNA'")
        forward_to_archive(core.context, vna)
        assert owed(edge, instance)["archives VNA"] == "dead"
        assert asked == ["asked"]
        core.context.associations.close()


def test_senders_are_offered_what_the_archives_accept(make_edge: MakeEdge) -> None:
    """The actors ask, the receivers read: the sender is told before it sends."""
    edge = as_archives(make_edge)

    def accepted() -> set[str]:
        offers = [ProposedContext(CT, uid) for uid in (EXPLICIT, IMPLICIT, JPEG_LS, JPEG_2000)]
        with edge.association(offers, "CT1") as association:
            return {context.transfer_syntax_uid for context in association.accepted}

    with peers_of(edge) as peers:
        peers["VNA"].contexts.transfer_syntaxes = (EXPLICIT, IMPLICIT, JPEG_LS)
        peers["ORTHANC"].contexts.transfer_syntaxes = (EXPLICIT, IMPLICIT, JPEG_2000)
        edge.serve()
        assert accepted() == {EXPLICIT, IMPLICIT, JPEG_LS, JPEG_2000}, "nothing is known yet"
        edge.actors("pacs", "archives")
        wait_until(lambda: accepted() == {EXPLICIT, IMPLICIT}, 30, "the receivers to offer the common ones")
        edge.kill()
