"""What the edge turns away is counted with its reason, survives the process, and is shown with its remedy."""

import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from conftest import MakeEdge
from support import certificates
from support.broken_peers import request
from support.dicom_peers import p_data, pdv, store_command
from support.edge_setup import EdgeSetup
from support.synthetic_instances import CT, EXPLICIT, Instance, new_uid
from support.waiting import wait_until
from typer.testing import CliRunner

from cli.main import build
from gateway.dicom import pdu
from gateway.dicom.association import PeerAddress
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.requestor import associate
from gateway.dicom.tls import requestor_context
from gateway.domain.refusal import Reason
from gateway.errors import AssociationRejectedError, PeerError

WORKLIST = ProposedContext("1.2.840.10008.5.1.4.31", EXPLICIT)
WORKERS = [f"APP0{number}" for number in range(1, 6)]
pytestmark = pytest.mark.usefixtures("no_console")


@pytest.fixture
def no_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the screen a fixed width."""
    monkeypatch.setenv("COLUMNS", "200")


def listed(*words: str) -> list[dict[str, Any]]:
    """Return the items of `mini-pacs refusals --json`."""
    result = CliRunner().invoke(build("refusals"), ["refusals", "--json", *words])
    assert result.exit_code == 0, result.output
    items: list[dict[str, Any]] = json.loads(result.stdout)["items"]
    return items


def by_reason(items: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the items by their reasons."""
    return {item["reason"]: item for item in items}


def rejected(edge: EdgeSetup, calling: str, called: str | None = None) -> None:
    """Ask for an association that must be rejected."""
    peer = edge.peer()
    peer = PeerAddress(peer.host, peer.port, called or peer.ae_title, 10, 10)
    with pytest.raises(AssociationRejectedError):
        associate(peer, calling_ae_title=calling, contexts=[ProposedContext(CT, EXPLICIT)])


def say(edge: EdgeSetup, *parts: bytes) -> None:
    """Send bytes on a new connection and read until the edge closes it, or resets it."""
    with (
        socket.create_connection(("127.0.0.1", edge.configuration.edge.port), timeout=10) as sock,
        suppress(OSError),
    ):
        for part in parts:
            sock.sendall(part)
            sock.recv(4096)
        while sock.recv(4096):
            pass


def test_each_refusal_is_counted_with_its_reason_and_remedy(make_edge: MakeEdge) -> None:
    """Associations, contexts, C-STOREs, silence and bytes that are no DICOM; after a restart, too."""
    allowed = ["ORTHANC", "CT1@10.0.0.0/8", *WORKERS]
    changes = {
        "allowed_calling_aets": allowed,
        "max_associations_per_peer": 1,
        "artim_timeout_seconds": 0.3,
        "network_timeout_seconds": 0.3,
        "idle_timeout_seconds": 0.5,
        "receivers": 1,
    }
    edge = make_edge({"edge": changes})
    edge.serve()
    for _ in range(3):
        rejected(edge, "CT2")
    rejected(edge, "CT1")
    rejected(edge, "ORTHANC", "ANY-SCP")
    good, unreadable = Instance(), new_uid()
    _refused_within_an_association(edge, good, unreadable)
    _broken_off(edge)
    assert edge.scp.stop() == 0

    items = listed()
    found = by_reason(items)
    assert set(found) == {
        Reason.CALLING_AE_TITLE, Reason.CALLING_ADDRESS, Reason.CALLED_AE_TITLE, Reason.SOP_CLASS,
        Reason.LIMIT_OF_PEER, Reason.CONTRADICTION, Reason.CANNOT_UNDERSTAND, Reason.NOT_DICOM,
        Reason.NO_ASSOCIATION_REQUEST, Reason.SILENT_IN_A_MESSAGE, Reason.IDLE, Reason.MALFORMED,
    }  # fmt: skip
    unknown, limit, wrong = found["calling_ae_title"], found["limit_of_peer"], found["cannot_understand"]
    assert (unknown["count"], unknown["allowlist_entry"]) == (3, "CT2@127.0.0.1")
    assert "CT2 at 127.0.0.1 is not in edge.allowed_calling_aets: refused 3 times" in unknown["text"]
    assert found["calling_address"]["allowlist_entry"] == "CT1@127.0.0.1"
    assert found["called_ae_title"]["called_ae_title"] == "ANY-SCP"
    assert "ORTHANC@127.0.0.1 has 1" in limit["detail"]
    assert found["sop_class"]["last_uid"] == WORKLIST.sop_class_uid
    assert (wrong["status"], wrong["last_uid"]) == (0xC000, unreadable)
    assert "(0020,000D)" in wrong["detail"]
    assert found["not_dicom"]["count"] == 2
    assert found["contradiction"]["kind"] == "c_store"
    assert all(item["remedy"] for item in items if item["reason"] != "idle")
    [row] = edge.rows("SELECT study_instance_uid, count, reason FROM refused_instances WHERE status = 43264")
    assert row == (good.study_instance_uid, 1, "contradiction")
    total = edge.one("SELECT sum(total) FROM counters WHERE name = 'refusals'")
    assert total == sum(item["count"] for item in items)
    _shown_and_paged(items)


def _refused_within_an_association(edge: EdgeSetup, good: Instance, unreadable: str) -> None:
    data = good.data_set()
    with edge.association([good.context, WORKLIST]) as association:
        rejected(edge, "ORTHANC")  # the only association of this peer is open
        assert association.store(good.context, good.sop_instance_uid, [data])[0] == 0
        assert association.store(good.context, new_uid(), [data])[0] == 0xA900
    edge.wait_log(outcome="released", calling_ae_title="ORTHANC")  # the only place is free again
    with edge.association([good.context]) as association:
        broken = data.replace(b"\x20\x00\x0d\x00UI", b"\x20\x00\x0c\x00UI")
        broken = broken.replace(good.sop_instance_uid.encode(), unreadable.encode())
        assert association.store(good.context, unreadable, [broken])[0] == 0xC000


def _broken_off(edge: EdgeSetup) -> None:
    say(edge, b"GET / HTTP/1.1\r\n\r\n")
    say(edge, b"\x16\x03\x01\x02\x00\x01\x00")
    say(edge)  # silent: ARTIM
    wait_until(lambda: len(edge.log(outcome="released")) == 2, 10, "the place to be free again")
    say(edge, request(), p_data(store_command(), pdv(1, 0, bytes(100)))[:-20])  # silent in a message
    wait_until(lambda: len(edge.log(outcome="timeout", calling_ae_title="ORTHANC")) == 1, 10, "its end")
    say(edge, request())  # idle
    wait_until(lambda: len(edge.log(outcome="timeout", calling_ae_title="ORTHANC")) == 2, 10, "its end")
    say(edge, request(), pdu.HEADER.pack(0x77, 4) + bytes(4))


def _shown_and_paged(items: list[dict[str, Any]]) -> None:
    shown = CliRunner().invoke(build("refusals"), ["refusals"]).stdout
    assert "→ if it may send, add to edge.allowed_calling_aets: CT2@127.0.0.1" in shown
    assert by_reason(listed("--calling-aet", "CT2")).keys() == {"calling_ae_title"}
    pages, words = [], ["--limit", "5"]
    while True:
        page = json.loads(CliRunner().invoke(build("refusals"), ["refusals", "--json", *words]).stdout)
        pages += page["items"]
        if page["next"] is None:
            break
        words = ["--limit", "5", "--after", page["next"]]
    assert pages == items


def test_tls_handshakes_that_fail_are_counted(
    make_edge: MakeEdge, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A peer without a certificate, with one of another authority, and one that speaks plain DICOM."""
    certs = certificates.make(tmp_path_factory.mktemp("tls") / "certificates")
    tls = {"certificate": str(certs.edge.certificate), "key": str(certs.edge.key), "ca": str(certs.ca)}
    edge = make_edge({"edge": {"tls": tls, "receivers": 1}})
    edge.serve()
    say(edge, request())
    for own in (None, certs.stranger):
        certificate, key = (None, None) if own is None else (own.certificate, own.key)
        context = requestor_context(certificate, key, certs.ca, check_host=False, where="tls")
        address = edge.peer()
        peer = PeerAddress(address.host, address.port, address.ae_title, 10, 10, context)
        with pytest.raises(PeerError):
            associate(peer, calling_ae_title="ORTHANC", contexts=[ProposedContext(CT, EXPLICIT)])
    assert edge.scp.stop() == 0
    found = by_reason(listed())
    assert {reason for reason, item in found.items() if item["kind"] == "tls"} == {
        Reason.PEER_SPEAKS_NO_TLS,
        Reason.NO_CLIENT_CERTIFICATE,
        Reason.CLIENT_CERTIFICATE_REFUSED,
    }
    assert found["peer_speaks_no_tls"]["remote_address"] == "127.0.0.1"


def test_refusals_are_written_within_seconds(make_edge: MakeEdge) -> None:
    """While the receiver runs, an operator sees them."""
    edge = make_edge({"edge": {"receivers": 1}})
    edge.serve()
    rejected(edge, "CT2")
    wait_until(lambda: listed("--since", "5min"), 15, "the refusal to be written")


def test_a_wrong_time_or_page_is_a_usage_error(make_edge: MakeEdge) -> None:
    """The message names the option."""
    make_edge()
    for words in (("--since", "yesterday"), ("--since", "2999-01-01"), ("--after", "x")):
        result = CliRunner().invoke(build("refusals"), ["refusals", *words])
        assert result.exit_code == 2, words
        assert words[0] in result.output
    assert "Nothing was refused since 1d." in CliRunner().invoke(build("refusals"), ["refusals"]).stdout
