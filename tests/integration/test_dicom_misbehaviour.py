"""Whatever a requestor does wrong ends its own association, in order, and nobody else's (PS3.8 §9.2)."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_peers import (
    CT,
    DEADLINE_SECONDS,
    ECHO,
    IMPLICIT,
    Edge,
    associate_request,
    echo_command,
    edge,
    p_data,
    pdv,
    script,
    store_command,
)
from waiting import wait_until

from gateway.dicom import command, pdu
from gateway.dicom.contexts import VERIFICATION, Offer
from gateway.dicom.scp import CALLING_AE_TITLE_NOT_RECOGNIZED, AbortAssociation
from gateway.dicom.scu import associate
from gateway.domain.dimse_status import Status

SHORT = 0.3
"""Seconds of a timeout that is meant to be seen."""


@pytest.fixture
def running() -> Iterator[Edge]:
    """An acceptor with patience."""
    with edge() as it:
        yield it


@pytest.fixture
def impatient() -> Iterator[Edge]:
    """An acceptor whose timeouts are short."""
    with edge(artim=SHORT, network=SHORT, idle=SHORT) as it:
        yield it


def descriptors_open() -> int:
    """How many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def outcome(it: Edge) -> tuple[str, str | None]:
    """How the only admitted association ended."""
    wait_until(lambda: it.policy.outcomes, DEADLINE_SECONDS, "the association to end")
    it.wait_ended()
    assert not it.raised
    assert not it.policy.unadmitted
    (only,) = it.policy.outcomes
    return only


def unadmitted(it: Edge) -> tuple[str, str]:
    """How the only connection ended that never became an association."""
    wait_until(lambda: it.policy.unadmitted, DEADLINE_SECONDS, "the connection to end")
    it.wait_ended()
    assert not it.raised
    assert not it.policy.outcomes
    (only,) = it.policy.unadmitted
    return only


# ---- before the association --------------------------------------------------------------------------


def test_who_says_nothing_is_closed_after_artim(impatient: Edge) -> None:
    """A connection without A-ASSOCIATE-RQ ends, without a PDU (AA-2)."""
    with script(impatient, associated=False) as peer:
        peer.expect_end()
    assert unadmitted(impatient)[0] == "timeout"


def test_artim_bounds_the_whole_request(impatient: Edge) -> None:
    """A request that trickles in does not restart ARTIM with each byte."""
    began = time.monotonic()
    with script(impatient, associated=False) as peer:
        ended = threading.Event()

        def trickle() -> None:
            for byte in associate_request():
                if ended.wait(SHORT / 10):
                    return
                try:
                    peer.send(bytes([byte]))
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        peer.expect_end()
        ended.set()
        thread.join()
    assert time.monotonic() - began < 10 * SHORT
    assert unadmitted(impatient)[0] == "timeout"


def test_a_request_in_single_bytes_is_a_request(running: Edge) -> None:
    """How the network cuts a PDU does not matter."""
    with script(running, associated=False) as peer:
        for byte in associate_request():
            peer.send(bytes([byte]))
        assert peer.pdu()[0] == pdu.ASSOCIATE_AC
        peer.send(pdu.RELEASE_RQ_PDU)
        assert peer.pdu()[0] == pdu.RELEASE_RP
    assert outcome(running) == ("released", None)


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
    """AA-1: A-ABORT by the service-user, and the end."""
    with script(running, associated=False) as peer:
        peer.send(garbage)
        assert peer.expect_abort() == (pdu.SERVICE_USER, 0)
    assert unadmitted(running)[0] == "aborted"


def test_close_and_abort_before_the_association(running: Edge) -> None:
    """Both just end the connection."""
    with script(running, associated=False):
        pass
    wait_until(lambda: running.policy.unadmitted, DEADLINE_SECONDS, "the first to end")
    with script(running, associated=False) as peer:
        peer.send(pdu.abort_pdu(0, 0))
        peer.expect_end()
    running.wait_ended()
    assert [word for word, _ in running.policy.unadmitted] == ["lost", "aborted_by_peer"]


def test_protocol_version_and_application_context_are_checked(running: Edge) -> None:
    """What is no DICOM 3 is rejected: 1/2/2 and 1/1/2 of PS3.8 §9.3.4, Table 9-21."""
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


def test_who_is_not_admitted_is_rejected(running: Edge) -> None:
    """G7: the policy's A-ASSOCIATE-RJ, and no word of an association that never was."""
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
        p_data(pdv(1, 3, command.response(command.Command(store_command()[6:]), 0))), 5, id="a-response"
    ),
    pytest.param(p_data(pdv(1, 1, bytes(60_000)), pdv(1, 1, bytes(60_000))), 6, id="endless-command"),
]


@pytest.mark.parametrize(("wrong", "reason"), UNEXPECTED)
def test_what_the_state_machine_forbids_is_aborted(running: Edge, wrong: bytes, reason: int) -> None:
    """AA-8: A-ABORT by the service-provider, with the reason."""
    with script(running) as peer:
        peer.send(wrong)
        assert peer.expect_abort() == (pdu.SERVICE_PROVIDER, reason)
    assert outcome(running)[0] == "aborted"
    assert all(received.abandoned is not None for received in running.policy.received)


def test_abort_by_the_peer_abandons_the_reception(running: Edge) -> None:
    """A data set that is cut short is told as abandoned, never as finished."""
    with script(running) as peer:
        peer.send(p_data(store_command(), pdv(1, 0, b"half")))
        peer.send(pdu.abort_pdu(2, 6))
        peer.expect_end()
    assert outcome(running) == ("aborted_by_peer", "aborted by the peer: source 2, reason 6")
    (received,) = running.policy.received
    assert received.data == b"half"
    assert not received.finished
    assert received.abandoned is not None


def test_close_in_a_data_set_abandons_the_reception(running: Edge) -> None:
    """The same for a connection that is gone."""
    with script(running) as peer:
        peer.send(p_data(store_command(), pdv(1, 0, b"half")))
    assert outcome(running)[0] == "lost"
    assert running.policy.received[0].abandoned is not None


def test_release_in_a_data_set_is_answered(running: Edge) -> None:
    """AR-2 and AR-4: the peer may, and what it did not finish is abandoned."""
    with script(running) as peer:
        peer.send(p_data(store_command(), pdv(1, 0, b"half")), pdu.RELEASE_RQ_PDU)
        assert peer.pdu()[0] == pdu.RELEASE_RP
        peer.expect_end()
    assert outcome(running) == ("released", "released in the middle of a data set")
    assert running.policy.received[0].abandoned is not None


def test_release_asked_for_twice_is_answered_once(running: Edge) -> None:
    """After our response only the end of the connection is waited for (Sta13)."""
    with script(running) as peer:
        peer.send(pdu.RELEASE_RQ_PDU, pdu.RELEASE_RQ_PDU, p_data(echo_command()))
        assert peer.pdu()[0] == pdu.RELEASE_RP
        peer.expect_end()
    assert outcome(running) == ("released", None)


def test_silence_between_messages_ends_after_the_idle_timeout(impatient: Edge) -> None:
    """The peer is told by A-ABORT."""
    with script(impatient) as peer:
        assert peer.expect_abort() == (pdu.SERVICE_USER, 0)
    assert outcome(impatient)[0] == "timeout"


def test_silence_in_a_message_ends_after_the_network_timeout() -> None:
    """Idle patience does not apply in the middle of a data set."""
    with edge(network=SHORT, idle=60) as it:
        with script(it) as peer:
            peer.send(p_data(store_command(), pdv(1, 0, b"half")))
            assert peer.expect_abort()[0] == pdu.SERVICE_USER
        assert outcome(it)[0] == "timeout"
        assert it.policy.received[0].abandoned is not None


def test_a_pdu_that_trickles_ends_after_the_network_timeout() -> None:
    """One byte now and then does not hold a thread for ever."""
    with edge(network=SHORT, idle=60) as it:
        with script(it) as peer:
            peer.send(p_data(store_command()), pdu.data_pdu_header(1, 0, 10_000))
            ended = threading.Event()

            def trickle() -> None:
                while not ended.wait(SHORT / 10):
                    try:
                        peer.send(b"x")
                    except OSError:
                        return

            thread = threading.Thread(target=trickle)
            thread.start()
            it.wait_ended()
            ended.set()
            thread.join()
        assert outcome(it)[0] == "timeout"


def test_a_reception_may_abort(running: Edge) -> None:
    """`AbortAssociation` is A-ABORT by the service-user, and the reception is abandoned."""

    def refuse(_: object) -> None:
        raise AbortAssociation("by a fault")

    running.policy.on_write = refuse
    with script(running) as peer:
        peer.send(p_data(store_command(), pdv(1, 0, b"half")))
        assert peer.expect_abort() == (pdu.SERVICE_USER, 0)
    assert outcome(running) == ("aborted", "by a fault")
    assert running.policy.received[0].abandoned == "by a fault"


def test_an_unforeseen_error_of_the_policy_aborts_and_is_raised(running: Edge) -> None:
    """The peer is told, the reception abandoned, the end reported, and the error is the caller's."""

    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    running.policy.on_write = fail
    with script(running) as peer:
        peer.send(p_data(store_command(), pdv(1, 0, b"half")))
        assert peer.expect_abort() == (pdu.SERVICE_USER, 0)
    running.wait_ended()
    assert [str(error) for error in running.raised] == ["a bug"]
    assert running.policy.outcomes == [("aborted", "unforeseen error")]
    assert running.policy.received[0].abandoned is not None


# ---- messages ----------------------------------------------------------------------------------------


def test_a_failure_is_answered_with_all_that_names_it(running: Edge) -> None:
    """C-STORE-RSP carries class, instance, message id, status and comment (PS3.7 §9.3.1.2)."""
    running.policy.answer = lambda _: (Status.OUT_OF_RESOURCES, "x" * 100)
    with script(running) as peer:
        peer.send(p_data(store_command(message_id=4711), pdv(1, 2, b"data")))
        response = peer.response()
        assert response.number(command.STATUS) == 0xA700
        assert response.number(command.MESSAGE_ID_BEING_RESPONDED_TO) == 4711
        assert response.number(command.COMMAND_FIELD) == command.C_STORE_RSP
        assert response.text(command.AFFECTED_SOP_CLASS_UID) == CT
        assert response.text(command.AFFECTED_SOP_INSTANCE_UID) == "1.2.3"
        assert response.text(command.ERROR_COMMENT) == "x" * 64
        assert not response.has_data_set()


def test_commands_that_are_not_served_are_answered(running: Edge) -> None:
    """0x0211 for other operations, their data sets read over; the association goes on."""
    find = bytearray(command.c_store_request(9, CT, "1.2.3", 0))
    find[find.index(b"\0\0\0\1\2\0\0\0") + 8] = 0x20  # (0000,0100): C-FIND-RQ
    with script(running) as peer:
        peer.send(p_data(pdv(1, 3, bytes(find)), pdv(1, 0, b"ident"), pdv(1, 2, b"ifier")))
        response = peer.response()
        assert response.number(command.STATUS) == 0x0211
        assert response.number(command.COMMAND_FIELD) == 0x8020
        peer.send(p_data(echo_command(2)))
        assert peer.response().number(command.STATUS) == 0
    assert not running.policy.received


def test_stores_that_cannot_be_are_refused(running: Edge) -> None:
    """On the Verification context, of a class that is none, and without a data set."""
    without = bytearray(store_command(3))
    at = without.index(b"\0\0\0\x08\2\0\0\0") + 8
    without[at : at + 2] = b"\1\1"
    with script(running) as peer:
        peer.send(p_data(store_command(1, context_id=3), pdv(3, 2, b"data")))
        assert peer.response().number(command.STATUS) == 0x0122
        peer.send(p_data(store_command(2, sop_class_uid="1.2.3.4"), pdv(1, 2, b"data")))
        assert peer.response().number(command.STATUS) == 0x0122
        peer.send(p_data(bytes(without)))
        assert peer.response().number(command.STATUS) == 0xC000
    assert not running.policy.received


def test_a_store_of_another_accepted_class_is_let_through(running: Edge) -> None:
    """An image is worth more than its sender's mistake of context."""
    with script(running) as peer:
        peer.send(p_data(store_command(sop_class_uid="1.2.840.10008.5.1.4.1.1.4"), pdv(1, 2, b"data")))
        assert peer.response().number(command.STATUS) == 0
    assert running.policy.received[0].request.sop_class_uid == "1.2.840.10008.5.1.4.1.1.4"


def test_cancel_is_ignored_and_echo_answered_anywhere(running: Edge) -> None:
    """C-CANCEL has no response; C-ECHO is answered on a storage context too."""
    cancel = bytearray(command.c_echo_request(1, VERIFICATION))
    at = cancel.index(b"\0\0\0\1\2\0\0\0") + 8
    cancel[at : at + 2] = b"\xff\x0f"
    with script(running) as peer:
        peer.send(p_data(pdv(3, 3, bytes(cancel)), echo_command(5, context_id=1)))
        response = peer.response()
        assert response.number(command.MESSAGE_ID_BEING_RESPONDED_TO) == 5


def test_two_messages_in_one_pdu_and_one_in_many(running: Edge) -> None:
    """Where PDUs and PDVs begin and end has no meaning: single-byte fragments, empty ones, all at once."""
    message = store_command()[6:]
    with script(running) as peer:
        peer.send(
            p_data(echo_command(1), echo_command(2)),
            *(p_data(pdv(1, 1, message[i : i + 1])) for i in range(len(message) - 1)),
            p_data(pdv(1, 3, message[-1:]), pdv(1, 0, b""), pdv(1, 0, b"abc")),
            p_data(pdv(1, 0, b"d")),
            p_data(pdv(1, 2, b"")),
        )
        assert [peer.response().number(command.STATUS) for _ in range(3)] == [0, 0, 0]
    assert running.policy.received[0].data == b"abcd"


def test_a_peer_that_takes_only_tiny_pdus_is_answered_in_such(running: Edge) -> None:
    """The response is cut to the requestor's maximum length (PS3.8 §D.1)."""
    with script(running, max_pdu_bytes=20) as peer:
        peer.send(p_data(store_command(), pdv(1, 2, b"data")))
        raw, control = b"", 0
        while not control & pdu.IS_LAST:
            kind, body = peer.pdu()
            assert kind == pdu.P_DATA_TF
            assert len(body) <= 20
            raw, control = raw + body[6:], body[5]
        assert command.Command(raw).number(command.STATUS) == 0


# ---- stopping ----------------------------------------------------------------------------------------


def test_stop_ends_idle_associations_at_once(running: Edge) -> None:
    """Neither the idle timeout nor ARTIM is waited for."""
    with script(running) as idle, script(running, associated=False) as silent:
        wait_until(lambda: running.alive() == 2, DEADLINE_SECONDS, "both connections")
        running.acceptor.stop()
        assert idle.expect_abort() == (pdu.SERVICE_USER, 0)
        silent.expect_end()
    running.wait_ended()
    assert running.policy.outcomes == [("stopped", None)]
    assert running.policy.unadmitted == [("stopped", "")]


def test_stop_lets_an_instance_in_flight_finish(running: Edge) -> None:
    """G1 at a restart: what is half received is finished and answered, then the association ends."""
    with script(running) as peer:
        peer.send(p_data(store_command(), pdv(1, 0, b"half ")))
        wait_until(lambda: running.policy.received, DEADLINE_SECONDS, "the data set to begin")
        running.acceptor.stop()
        peer.send(p_data(pdv(1, 2, b"whole")), p_data(store_command(2), pdv(1, 2, b"next")))
        assert peer.response().number(command.STATUS) == 0
        assert peer.expect_abort() == (pdu.SERVICE_USER, 0)
    assert outcome(running) == ("stopped", None)
    (received,) = running.policy.received
    assert received.data == b"half whole"
    assert received.finished


# ---- many --------------------------------------------------------------------------------------------


def test_broken_associations_leak_nothing_and_starve_nobody(running: Edge) -> None:
    """G7: 200 of them, and every honest C-ECHO between is answered, no thread or descriptor left."""
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
            began = time.monotonic()
            with associate(running.peer, calling_ae_title="HONEST", contexts=[ECHO]) as association:
                assert association.echo() == 0
            assert time.monotonic() - began < 2
    running.wait_ended()
    wait_until(lambda: descriptors_open() <= descriptors, DEADLINE_SECONDS, "no descriptor left")
    assert not running.raised
