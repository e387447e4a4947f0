"""G7: garbage sent to a running SCP: memory stays bounded, other senders are served, nothing is forged.

Short and seeded; `make fuzz` is the long version of the same campaign.
"""

import socket
from contextlib import ExitStack

import pytest
from conftest import MakeEdge
from proof.fuzz import campaign, report
from proof.fuzz.hostile import bomb
from proof.fuzz.watch import MEMORY_BOUND_MB, peak_mb
from support.dicom_peers import CT, Script, p_data, pdv
from support.edge_setup import children

from gateway.dicom import command, pdu
from gateway.dicom.contexts import Offer
from gateway.dicom.negotiation import encode_request

pytestmark = pytest.mark.guarantee("G7")

SECONDS = 10
SEED = 1
CONNECTIONS = 1500
AT_LEAST = 2000
"""Less than the fifty thousand of an idle machine, since this one may have other load."""
BOMBS = 80
DEFLATED = "1.2.840.10008.1.2.1.99"


def test_a_running_scp_survives_garbage(make_edge: MakeEdge) -> None:
    """The same processes serve every well-behaved sender in bounded memory.

    Log and spool hold no data of the attackers.
    """
    edge = make_edge()
    edge.serve()
    outcome = campaign.run(
        edge, seconds=SECONDS, seed=SEED, connections=CONNECTIONS, attackers=1, at_least=AT_LEAST
    )
    assert not outcome.violations(), report.as_text(outcome)


def test_simultaneous_deflated_bombs_are_read_one_at_a_time(make_edge: MakeEdge) -> None:
    """Data sets of 100 KB that inflate to 100 MB each end at the same time.

    They are refused in bounded memory.
    """
    edge = make_edge()
    edge.serve()
    raw = bomb()
    assert len(raw) < 200_000
    with ExitStack() as stack:
        peers = [_sender(stack, edge.configuration.edge.port) for _ in range(BOMBS)]
        for number, peer in enumerate(peers):
            uid = f"1.2.3.{number}"
            peer.send(p_data(pdv(1, 3, command.c_store_request(1, CT, uid, 0))))
            for at in range(0, len(raw), 16_000):
                peer.send(p_data(pdv(1, 0, raw[at : at + 16_000])))
        for peer in peers:
            peer.send(p_data(pdv(1, 2, b"")))
        for peer in peers:
            assert peer.response().number(command.STATUS) == 0xC000
        peaks = [peak_mb(pid) for pid in children(edge.scp.pid)]
    assert max(peaks) < MEMORY_BOUND_MB, peaks


def _sender(stack: ExitStack, port: int) -> Script:
    peer = Script(stack.enter_context(socket.create_connection(("127.0.0.1", port))))
    peer.sock.settimeout(60)  # must exceed the memory that the others take before it
    peer.send(
        encode_request(
            called_ae_title="MINI_EDGE",
            calling_ae_title="APP01",
            offers=(Offer(1, CT, (DEFLATED,)),),
            max_pdu_bytes=16_384,
        )
    )
    assert peer.pdu()[0] == pdu.ASSOCIATE_AC
    return peer
