"""A requestor's errors end its own association only, as PS3.8 §9.2 defines."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.dicom_peers import (
    CT,
    DEADLINE_SECONDS,
    ECHO,
    IMPLICIT,
    SHORT_SECONDS,
    Edge,
    associate_request,
    echo_command,
    edge,
    p_data,
    pdv,
    script,
    store_command,
)
from support.waiting import wait_until

from gateway.dicom import command, pdu
from gateway.dicom.contexts import VERIFICATION, Offer
from gateway.dicom.policy import CALLING_AE_TITLE_NOT_RECOGNIZED
from gateway.dicom.requestor import associate


@pytest.fixture
def impatient() -> Iterator[Edge]:
    """Yield an acceptor whose timeouts are short."""
    with edge(artim=SHORT_SECONDS, network=SHORT_SECONDS, idle=SHORT_SECONDS) as it:
        yield it


def descriptors_open() -> int:
    """Return the number of open descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# ---- before the association --------------------------------------------------------------------------


def test_a_silent_connection_is_closed_after_artim(impatient: Edge) -> None:
    """Without an A-ASSOCIATE-RQ the connection is closed without a PDU (AA-2)."""
    with script(impatient, associated=False) as peer:
        peer.expect_end()
    assert impatient.unadmitted()[0] == "timeout"


def test_artim_bounds_the_whole_request(impatient: Edge) -> None:
    """The bytes of a slow request do not restart ARTIM."""
    with script(impatient, associated=False) as peer, peer.trickling(associate_request()):
        peer.expect_end()
    assert impatient.unadmitted()[0] == "timeout"


def test_a_request_in_single_bytes_is_accepted(running: Edge) -> None:
    """The network may split a PDU anywhere."""
    with script(running, associated=False) as peer:
        for byte in associate_request():
            peer.send(bytes([byte]))
        assert peer.pdu()[0] == pdu.ASSOCIATE_AC
        peer.send(pdu.RELEASE_RQ_PDU)
        assert peer.pdu()[0] == pdu.RELEASE_RP
    assert running.outcome() == ("released", None)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        pdu.RELEASE_RQ_PDU,
        p_data(echo_command()),
        pdu.HEADER.pack(pdu.ASSOCIATE_RQ, 0xFFFFFFFF) + bytes(100),
        pdu.HEADER.pack(pdu.ASSOCIATE_RQ, 10) + bytes(10),
        pdu.HEADER.pack(pdu.ASSOCIATE_RQ, 72) + bytes(68) + b"\x20\x00\xff\xff",
        associate_request(Offer(2, CT, (IMPLICIT,))),
        associate_request(Offer(1, CT, (IMPLICIT,)), Offer(1, VERIFICATION, (IMPLICIT,))),
    ],
    ids=["http", "tls", "release", "data", "4-gib", "short", "cut-item", "even-id", "id-twice"],
)
def test_garbage_before_the_association_is_aborted(running: Edge, garbage: bytes) -> None:
    """AA-1: A-ABORT by the service-user, then the connection is closed."""
    with script(running, associated=False) as peer:
        peer.send(garbage)
        assert peer.expect_abort() == (pdu.SERVICE_USER, 0)
    assert running.unadmitted()[0] == "aborted"


def test_close_and_abort_before_the_association(running: Edge) -> None:
    """Both end the connection, and nothing else."""
    with script(running, associated=False):
        pass
    wait_until(lambda: running.policy.unadmitted, DEADLINE_SECONDS, "the first to end")
    with script(running, associated=False) as peer:
        peer.send(pdu.abort_pdu(0, 0))
        peer.expect_end()
    running.wait_ended()
    assert [word for word, _ in running.policy.unadmitted] == ["lost", "aborted_by_peer"]


def test_protocol_version_and_application_context_are_checked(running: Edge) -> None:
    """Other values are rejected: 1/2/2 and 1/1/2 of PS3.8 §9.3.4, Table 9-21."""
    request = associate_request()
    for changed, expected in (
        (request[:6] + b"\0\2" + request[8:], b"\0\1\2\2"),
        (request.replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.9"), b"\0\1\1\2"),
    ):
        with script(running, associated=False) as peer:
            peer.send(changed)
            assert peer.pdu() == (pdu.ASSOCIATE_RJ, expected)
            peer.expect_end()
    running.wait_ended()
    assert [word for word, _ in running.policy.unadmitted] == ["rejected", "rejected"]


def test_a_caller_that_is_not_admitted_is_rejected(running: Edge) -> None:
    """G7: it gets the policy's A-ASSOCIATE-RJ, and no association is reported."""
    running.policy.rejection = CALLING_AE_TITLE_NOT_RECOGNIZED
    with script(running, associated=False) as peer:
        peer.send(associate_request())
        assert peer.pdu() == (pdu.ASSOCIATE_RJ, b"\0\1\1\3")
        peer.expect_end()
    running.wait_ended()
    (requestor,) = running.policy.requestors
    assert (requestor.calling_ae_title, requestor.called_ae_title) == ("SCRIPT", "EDGE")
    assert not running.policy.outcomes
    assert not running.policy.unadmitted


# ---- in the association ------------------------------------------------------------------------------


UNEXPECTED = [
    pytest.param(associate_request(), pdu.UNEXPECTED_PDU, id="second-request"),
    pytest.param(pdu.reject_pdu(1, 1, 1), pdu.UNEXPECTED_PDU, id="reject"),
    pytest.param(pdu.RELEASE_RP_PDU, pdu.UNEXPECTED_PDU, id="release-response"),
    pytest.param(b"\x99\0\0\0\0\4\0\0\0\0", pdu.UNRECOGNIZED_PDU, id="unknown"),
    pytest.param(b"\x99\0\xff\xff\xff\xff", pdu.UNRECOGNIZED_PDU, id="unknown-4-gib"),
    pytest.param(b"\5\0\xff\xff\xff\xff", 6, id="release-4-gib"),
    pytest.param(b"\4\0\xff\xff\xff\xff", 6, id="data-4-gib"),
    pytest.param(b"\4\0\0\2\x20\0", 6, id="larger-than-announced"),
    pytest.param(b"\4\0\0\0\0\3\0\0\0", 6, id="no-room-for-a-pdv"),
    pytest.param(p_data(b"\0\0\0\1\1\3"), 6, id="pdv-too-short"),
    pytest.param(p_data(b"\xff\xff\xff\xff\1\3"), 6, id="pdv-4-gib"),
    pytest.param(p_data(echo_command(context_id=77)), 6, id="unknown-context"),
    pytest.param(p_data(pdv(1, 0, b"data")), 5, id="data-without-command"),
    pytest.param(p_data(store_command(), pdv(3, 0, b"data")), 5, id="data-on-another-context"),
    pytest.param(p_data(store_command(), echo_command()), 5, id="command-in-a-data-set"),
    pytest.param(p_data(pdv(1, 3, b"\0\0\0\0\xff\xff\xff\xff")), 6, id="command-element-4-gib"),
    pytest.param(p_data(pdv(1, 3, b"")), 6, id="empty-command"),
    pytest.param(
        p_data(pdv(1, 3, command.response(command.CommandSet(store_command()[6:]), 0))), 5, id="a-response"
    ),
    pytest.param(p_data(pdv(1, 1, bytes(60_000)), pdv(1, 1, bytes(60_000))), 6, id="endless-command"),
]


@pytest.mark.parametrize(("wrong", "reason"), UNEXPECTED)
def test_what_the_state_machine_forbids_is_aborted(running: Edge, wrong: bytes, reason: int) -> None:
    """AA-8: A-ABORT by the service-provider, with the reason."""
    with script(running) as peer:
        peer.send(wrong)
        assert peer.expect_abort() == (pdu.SERVICE_PROVIDER, reason)
    assert running.outcome()[0] == "aborted"
    assert all(received.abandoned is not None for received in running.policy.received)


def test_a_repeated_release_request_is_answered_once(running: Edge) -> None:
    """After our response we only wait for the end of the connection (Sta13)."""
    with script(running) as peer:
        peer.send(pdu.RELEASE_RQ_PDU, pdu.RELEASE_RQ_PDU, p_data(echo_command()))
        assert peer.pdu()[0] == pdu.RELEASE_RP
        peer.expect_end()
    assert running.outcome() == ("released", None)


def test_silence_between_messages_ends_after_the_idle_timeout(impatient: Edge) -> None:
    """The peer gets an A-ABORT."""
    with script(impatient) as peer:
        assert peer.expect_abort() == (pdu.SERVICE_USER, 0)
    assert impatient.outcome()[0] == "timeout"


# ---- stopping ----------------------------------------------------------------------------------------


def test_stop_ends_idle_associations_at_once(running: Edge) -> None:
    """It waits neither for the idle timeout nor for ARTIM."""
    with script(running) as idle, script(running, associated=False) as silent:
        wait_until(lambda: running.alive() == 2, DEADLINE_SECONDS, "both connections")
        running.acceptor.stop()
        assert idle.expect_abort() == (pdu.SERVICE_USER, 0)
        silent.expect_end()
    running.wait_ended()
    assert running.policy.outcomes == [("stopped", None)]
    assert running.policy.unadmitted == [("stopped", "")]


# ---- many --------------------------------------------------------------------------------------------


def test_broken_associations_leak_nothing_and_block_no_sender(running: Edge) -> None:
    """G7: among 200 of them each C-ECHO is answered, and no thread or descriptor is left."""
    breakages = [
        b"",
        b"garbage" * 10,
        associate_request()[:50],
        associate_request() + b"\x99\0\0\0\0\0",
        associate_request() + p_data(store_command(), pdv(1, 0, b"half")),
        associate_request() + pdu.HEADER.pack(pdu.P_DATA_TF, 0xFFFFFFFF),
        associate_request() + pdu.abort_pdu(0, 0),
        associate_request() + p_data(store_command())[:30],
    ]
    descriptors = descriptors_open()
    for number in range(200):
        with socket.create_connection(("127.0.0.1", running.port)) as sock:
            sock.sendall(breakages[number % len(breakages)])
        if number % 20 == 0:
            with associate(running.peer, calling_ae_title="HONEST", contexts=[ECHO]) as association:
                assert association.echo() == 0
    running.wait_ended()
    wait_until(lambda: descriptors_open() <= descriptors, DEADLINE_SECONDS, "no descriptor left")
    assert not running.raised
