"""Each complete message is answered; a reception that is cut off is abandoned."""

import itertools

import pytest
from support.dicom_peers import (
    CT,
    DEADLINE_SECONDS,
    SHORT_SECONDS,
    Edge,
    echo_command,
    edge,
    p_data,
    pdv,
    script,
    store_command,
)
from support.waiting import wait_until

from gateway.dicom import command, pdu
from gateway.dicom.contexts import VERIFICATION
from gateway.dicom.policy import AbortAssociation
from gateway.domain.dimse_status import Status

# ---- whole -------------------------------------------------------------------------------------------


def test_a_failure_response_names_its_instance(running: Edge) -> None:
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
    """Other operations get 0x0211, their data sets are skipped, and the association goes on."""
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


def test_invalid_c_store_requests_are_refused(running: Edge) -> None:
    """A C-STORE on the Verification context, of a class that is no storage class, and without a data set."""
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


def test_a_store_on_the_context_of_another_class_is_accepted(running: Edge) -> None:
    """The image is worth more than a correct choice of context."""
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
    """Message boundaries do not depend on PDUs and PDVs: single-byte fragments, empty ones, all in one."""
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


@pytest.mark.parametrize("length", [1, 7, 500, 8_000])
def test_a_data_set_in_many_fragments_arrives_unchanged(running: Edge, length: int) -> None:
    """Fragments of one read are written together: never so many that the system call for it would fail."""
    data = bytes(range(251)) * 1_200
    cut = [data[at : at + length] for at in range(0, len(data), length)][:4_000]
    sent = b"".join(cut)
    values = [pdv(1, 0, fragment) for fragment in cut[:-1]] + [pdv(1, 2, cut[-1])]
    pdus = [p_data(*values[at : at + 2]) for at in range(0, len(values), 2)]
    with script(running) as peer:
        for number in (1, 2):  # the second one begins behind the first one in the buffer
            peer.send(p_data(store_command(number)), *pdus)
            assert peer.response().number(command.STATUS) == 0
    for received in running.policy.received:
        assert received.data == sent
        assert 1 < received.most_fragments <= 64


def test_responses_fit_a_tiny_maximum_length(running: Edge) -> None:
    """The response is split to the requestor's maximum length (PS3.8 §D.1)."""
    with script(running, max_pdu_bytes=20) as peer:
        peer.send(p_data(store_command(), pdv(1, 2, b"data")))
        raw, control = b"", 0
        while not control & pdu.IS_LAST:
            kind, body = peer.pdu()
            assert kind == pdu.P_DATA_TF
            assert len(body) <= 20
            raw, control = raw + body[6:], body[5]
        assert command.CommandSet(raw).number(command.STATUS) == 0


# ---- in the middle of a data set ---------------------------------------------------------------------


def test_abort_by_the_peer_abandons_the_reception(running: Edge) -> None:
    """A data set that is cut off is reported as abandoned, never as finished."""
    with script(running) as peer:
        peer.send(p_data(store_command(), pdv(1, 0, b"half")))
        # Data that comes together with an A-ABORT is not written any more.
        wait_until(lambda: any(one.data for one in running.policy.received), DEADLINE_SECONDS, "the data")
        peer.send(pdu.abort_pdu(2, 6))
        peer.expect_end()
    assert running.outcome() == ("aborted_by_peer", "aborted by the peer: source 2, reason 6")
    (received,) = running.policy.received
    assert received.data == b"half"
    assert not received.finished
    assert received.abandoned is not None


def test_close_in_a_data_set_abandons_the_reception(running: Edge) -> None:
    """The same for a closed connection."""
    with script(running) as peer:
        peer.send(p_data(store_command(), pdv(1, 0, b"half")))
    assert running.outcome()[0] == "lost"
    assert running.policy.received[0].abandoned is not None


def test_release_in_a_data_set_is_answered(running: Edge) -> None:
    """AR-2 and AR-4: the release is allowed, and the unfinished reception is abandoned."""
    with script(running) as peer:
        peer.send(p_data(store_command(), pdv(1, 0, b"half")), pdu.RELEASE_RQ_PDU)
        assert peer.pdu()[0] == pdu.RELEASE_RP
        peer.expect_end()
    assert running.outcome() == ("released", "released in the middle of a data set")
    assert running.policy.received[0].abandoned is not None


def test_silence_in_a_message_ends_after_the_network_timeout() -> None:
    """The idle timeout does not apply in the middle of a data set."""
    with edge(network=SHORT_SECONDS, idle=60) as it:
        with script(it) as peer:
            peer.send(p_data(store_command(), pdv(1, 0, b"half")))
            assert peer.expect_abort()[0] == pdu.SERVICE_USER
        assert it.outcome()[0] == "timeout"
        assert it.policy.received[0].abandoned is not None


def test_a_pdu_that_trickles_ends_after_the_network_timeout() -> None:
    """A peer that sends single bytes now and then cannot hold a thread for ever."""
    with edge(network=SHORT_SECONDS, idle=60) as it:
        with script(it) as peer:
            peer.send(p_data(store_command()), pdu.data_pdu_header(1, 0, 10_000))
            with peer.trickling(itertools.repeat(ord("x"))):
                it.wait_ended()
        assert it.outcome()[0] == "timeout"


def test_a_reception_may_abort(running: Edge) -> None:
    """`AbortAssociation` sends an A-ABORT of the service-user, and the reception is abandoned."""

    def refuse(_: object) -> None:
        raise AbortAssociation("by a fault")

    running.policy.on_write = refuse
    with script(running) as peer:
        peer.send(p_data(store_command(), pdv(1, 0, b"half")))
        assert peer.expect_abort() == (pdu.SERVICE_USER, 0)
    assert running.outcome() == ("aborted", "by a fault")
    assert running.policy.received[0].abandoned == "by a fault"


def test_an_unforeseen_error_of_the_policy_aborts_and_is_raised(running: Edge) -> None:
    """The peer gets an A-ABORT, the reception is abandoned, and the caller gets the error."""

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


def test_stop_lets_an_instance_in_flight_finish(running: Edge) -> None:
    """G1 at a restart: the instance is finished and answered, then the association ends."""
    with script(running) as peer:
        peer.send(p_data(store_command(), pdv(1, 0, b"half ")))
        wait_until(lambda: running.policy.received, DEADLINE_SECONDS, "the data set to begin")
        running.acceptor.stop()
        peer.send(p_data(pdv(1, 2, b"whole")), p_data(store_command(2), pdv(1, 2, b"next")))
        assert peer.response().number(command.STATUS) == 0
        assert peer.expect_abort() == (pdu.SERVICE_USER, 0)
    assert running.outcome() == ("stopped", None)
    (received,) = running.policy.received
    assert received.data == b"half whole"
    assert received.finished
