"""Each misbehaviour of an acceptor gives the forwarder a specific error, in time."""

import contextlib
import io
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from support.dicom_peers import CT_IMPLICIT, DEADLINE_SECONDS, ECHO, Script, edge, p_data, pdv
from support.waiting import wait_until

from gateway.dicom import command, pdu
from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.contexts import ACCEPTANCE, Answer
from gateway.dicom.negotiation import decode_request, encode_accept
from gateway.dicom.requestor import associate
from gateway.errors import AssociationBrokenError, AssociationRejectedError, PeerAwayError

TIMEOUT = 0.5
"""Seconds of a DIMSE or connection timeout that the test waits for."""

Behaviour = Callable[[Script], None]


@contextlib.contextmanager
def acceptor(behave: Behaviour) -> Iterator[PeerAddress]:
    """Yield a scripted acceptor of one connection; a failed assertion in it fails the test."""
    failures: list[BaseException] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            sock, _ = listener.accept()
            with sock:
                behave(Script(sock))
        except (AssertionError, OSError) as error:
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield PeerAddress("127.0.0.1", listener.getsockname()[1], "SCRIPT", TIMEOUT, TIMEOUT)
    finally:
        thread.join()
        listener.close()
    assert not failures, failures


def accept(peer: Script, max_pdu_bytes: int = 16_384) -> None:
    """Read the A-ASSOCIATE-RQ and accept all contexts."""
    kind, body = peer.pdu()
    assert kind == pdu.ASSOCIATE_RQ
    request = decode_request(body)
    answers = [Answer(o.context_id, ACCEPTANCE, o.transfer_syntax_uids[0]) for o in request.offers]
    peer.send(encode_accept(request, answers, max_pdu_bytes))


def read_store(peer: Script) -> tuple[command.CommandSet, bytes, list[int]]:
    """Return the next C-STORE-RQ: command, data set, and the lengths of its PDUs."""
    data, raw, lengths = b"", b"", []
    while True:
        kind, body = peer.pdu()
        assert kind == pdu.P_DATA_TF
        lengths.append(len(body))
        length, _, control = pdu.PDV_HEADER.unpack(body[:6])
        assert length == len(body) - 4
        if control & pdu.IS_COMMAND:
            raw += body[6:]
        else:
            data += body[6:]
            if control & pdu.IS_LAST:
                return command.CommandSet(raw), data, lengths


def respond(peer: Script, request: command.CommandSet, status: int = 0, comment: str = "") -> None:
    """Answer a request on context 1."""
    peer.send(p_data(pdv(1, 3, command.response(request, status, comment))))


def connect(peer: PeerAddress) -> Association:
    """Return an association for CT."""
    return associate(peer, calling_ae_title="US", contexts=[CT_IMPLICIT, ECHO])


# ---- association -------------------------------------------------------------------------------------


def test_a_refused_connection_is_a_peer_that_is_away() -> None:
    """No process listens on the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(PeerAwayError, match="cannot connect"):
        connect(PeerAddress("127.0.0.1", port, "GONE", TIMEOUT, TIMEOUT))


@pytest.mark.parametrize("host", ["host.invalid", "host..invalid", "a" * 64, "host\0"])
def test_a_host_name_that_does_not_resolve_is_a_peer_that_is_away(host: str) -> None:
    """The name server has no address for it, or cannot be asked for it."""
    with pytest.raises(PeerAwayError, match="cannot connect"):
        connect(PeerAddress(host, 104, "GONE", TIMEOUT, TIMEOUT))


def test_a_slow_look_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as part of the time to connect, and no limit of a socket ends it."""
    look_up = socket.getaddrinfo
    looked_up = threading.Event()

    def slow(*arguments: object, **options: object) -> object:
        looked_up.wait(2 * TIMEOUT)  # nobody sets it
        return look_up(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with (
        acceptor(lambda peer: peer.expect_end()) as peer,
        pytest.raises(PeerAwayError, match=r"the look-up of 127\.0\.0\.1 and the connection took [1-9]"),
    ):
        connect(peer)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        pdu.abort_pdu(2, 0),
        pdu.RELEASE_RP_PDU,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        pdu.HEADER.pack(pdu.ASSOCIATE_AC, 0xFFFFFFFF),
        pdu.HEADER.pack(pdu.ASSOCIATE_AC, 4) + bytes(4),
    ],
    ids=["close", "abort", "release", "http", "4-gib", "short"],
)
def test_anything_but_an_acceptance_is_away(answer: bytes) -> None:
    """The error is not a rejection, and counts no attempt."""

    def behave(peer: Script) -> None:
        assert peer.pdu()[0] == pdu.ASSOCIATE_RQ
        peer.send(answer)

    with acceptor(behave) as peer, pytest.raises(PeerAwayError) as away:
        connect(peer)
    assert not isinstance(away.value, AssociationRejectedError)


def test_an_acceptor_that_does_not_answer_is_away_after_the_connect_timeout() -> None:
    """The wait ends with that timeout."""

    def behave(peer: Script) -> None:
        assert peer.pdu()[0] == pdu.ASSOCIATE_RQ
        peer.pdu()  # until the other side closes

    with acceptor(behave) as peer, pytest.raises(PeerAwayError, match="silent"):
        connect(peer)


def test_a_rejection_carries_its_reason() -> None:
    """Result, source and reason of PS3.8 §9.3.4, Table 9-21."""

    def behave(peer: Script) -> None:
        assert peer.pdu()[0] == pdu.ASSOCIATE_RQ
        peer.send(pdu.reject_pdu(2, 3, 2))

    with acceptor(behave) as peer, pytest.raises(AssociationRejectedError) as rejected:
        connect(peer)
    assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (2, 3, 2)


# ---- C-STORE -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_pdu_bytes", [0, 20, 16_384, 1 << 31])
def test_pdus_fit_the_peer(max_pdu_bytes: int) -> None:
    """No PDU is longer than the acceptor's maximum, and command and data set arrive complete."""
    data = bytes(range(256)) * 40

    def behave(peer: Script) -> None:
        accept(peer, max_pdu_bytes)
        for _ in range(2):
            request, got, lengths = read_store(peer)
            assert got == data
            assert max(lengths) <= (max_pdu_bytes or pdu.OUR_MAX_PDU_BYTES)
            assert request.text(command.AFFECTED_SOP_INSTANCE_UID) == "1.2.3"
            respond(peer, request, 0xA701, "later")
        assert peer.pdu()[0] == pdu.RELEASE_RQ
        peer.send(pdu.RELEASE_RP_PDU)

    with acceptor(behave) as peer, connect(peer) as association:
        assert association.store(CT_IMPLICIT, "1.2.3", [data]) == (0xA701, "later")
        assert association.store(CT_IMPLICIT, "1.2.3", io.BytesIO(data), priority=1) == (0xA701, "later")


def broken(behave: Behaviour) -> str:
    """Return the message of the error that ends a store; check that the association is closed."""
    with acceptor(behave) as peer:
        association = connect(peer)
        with pytest.raises(AssociationBrokenError) as error:
            association.store(CT_IMPLICIT, "1.2.3", [bytes(100_000)])
        assert not association.usable
        assert not association.is_alive()
        with pytest.raises(AssociationBrokenError):
            association.store(CT_IMPLICIT, "1.2.3", [b""])
        association.release()
        association.abort()
    return str(error.value)


def test_an_abort_instead_of_a_response() -> None:
    """It is raised as the peer's abort."""

    def behave(peer: Script) -> None:
        accept(peer)
        read_store(peer)
        peer.send(pdu.abort_pdu(0, 0))

    assert "aborted by the peer" in broken(behave)


def test_a_close_instead_of_a_response() -> None:
    """It is raised as the end of the connection."""

    def behave(peer: Script) -> None:
        accept(peer)
        read_store(peer)

    assert "closed by the peer" in broken(behave)


def test_an_abort_in_the_middle_of_the_data_set() -> None:
    """An abort or a reset may be seen first; in both cases the association is broken."""

    def behave(peer: Script) -> None:
        accept(peer)
        peer.pdu()
        peer.send(pdu.abort_pdu(0, 0))

    assert "peer" in broken(behave) or "lost" in broken(behave)


def test_a_peer_that_never_answers() -> None:
    """The DIMSE timeout ends the wait, and the peer gets an A-ABORT."""

    def behave(peer: Script) -> None:
        accept(peer)
        read_store(peer)
        assert peer.expect_abort() == (pdu.SERVICE_USER, 0)

    assert "silent" in broken(behave)


def test_a_peer_that_stops_reading() -> None:
    """The same timeout ends a blocked send."""
    done = threading.Event()

    def behave(peer: Script) -> None:
        accept(peer, 0)
        assert done.wait(DEADLINE_SECONDS)

    with acceptor(behave) as peer:
        association = connect(peer)
        with pytest.raises(AssociationBrokenError, match="took nothing"):
            association.store(CT_IMPLICIT, "1.2.3", (bytes(1 << 20) for _ in range(200)))
        done.set()
        assert not association.usable


@pytest.mark.parametrize(
    "answer",
    [
        p_data(pdv(1, 2, b"data")),
        p_data(pdv(3, 3, b"")),
        p_data(pdv(1, 3, b"\0\0\0\0\xff\xff\xff\xff")),
        p_data(b"\xff\xff\xff\xff\1\3"),
        pdu.RELEASE_RQ_PDU,
        b"\x55\0\xff\xff\xff\xff",
    ],
    ids=["data", "context", "element", "pdv", "release", "unknown"],
)
def test_an_unexpected_answer_is_aborted(answer: bytes) -> None:
    """AA-8; it is raised as a broken association."""

    def behave(peer: Script) -> None:
        accept(peer)
        read_store(peer)
        peer.send(answer)
        assert peer.expect_abort()[0] == pdu.SERVICE_PROVIDER

    broken(behave)


def test_a_response_to_another_request_is_never_accepted() -> None:
    """A late response must not settle the next instance."""

    def behave(peer: Script) -> None:
        accept(peer)
        read_store(peer)
        respond(peer, command.CommandSet(command.c_store_request(99, "1.2", "1.2.3", 0)))
        assert peer.expect_abort()[0] == pdu.SERVICE_PROVIDER

    assert "another request" in broken(behave)


@pytest.mark.parametrize(("named", "shown"), [("1.2.3.9", "1.2.3.9"), ("DOE^JOHN", "a text that is no UID")])
def test_a_success_for_another_instance_is_never_accepted(named: str, shown: str) -> None:
    """PS3.7 §9.1.1, Table 9.1-1: a response has the UID of its request. Text that is no UID is not shown."""

    def behave(peer: Script) -> None:
        accept(peer)
        request, _, _ = read_store(peer)
        other = command.c_store_request(request.required(command.MESSAGE_ID), "1.2", named, 0)
        respond(peer, command.CommandSet(other))
        assert peer.expect_abort()[0] == pdu.SERVICE_PROVIDER

    assert f"Success for another SOP Instance UID ({shown})" in broken(behave)


def test_an_error_of_the_data_set_aborts_and_is_raised() -> None:
    """An unreadable data set is not sent in part: the peer gets an abort, the caller the original error."""

    def pieces() -> Iterator[bytes]:
        yield bytes(1_000_000)
        raise OSError("disk")

    def behave(peer: Script) -> None:
        accept(peer)
        kind = pdu.P_DATA_TF
        while kind == pdu.P_DATA_TF:
            kind, _ = peer.pdu()
        assert kind == pdu.ABORT

    with acceptor(behave) as peer:
        association = connect(peer)
        with pytest.raises(OSError, match="disk"):
            association.store(CT_IMPLICIT, "1.2.3", pieces())
        assert not association.usable


# ---- the end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [pdu.abort_pdu(0, 0), b""], ids=["abort", "close"])
def test_an_idle_association_that_ended_is_noticed(last: bytes) -> None:
    """`is_alive` is false before the next instance is sent on it."""

    def behave(peer: Script) -> None:
        accept(peer)
        read_request, _, _ = read_store(peer)
        respond(peer, read_request)
        peer.send(last)

    with acceptor(behave) as peer:
        association = connect(peer)
        assert association.store(CT_IMPLICIT, "1.2.3", [b"data"])[0] == 0
        wait_until(lambda: not association.is_alive(), DEADLINE_SECONDS, "the end to be noticed")
        association.release()


def test_release_collision_is_answered() -> None:
    """Both sides request a release: we answer, then wait for the response (PS3.8 §9.2, AR-8, AR-9, Sta11)."""

    def behave(peer: Script) -> None:
        accept(peer)
        peer.send(pdu.RELEASE_RQ_PDU)
        assert peer.pdu()[0] == pdu.RELEASE_RQ
        assert peer.pdu()[0] == pdu.RELEASE_RP
        peer.send(p_data(pdv(1, 2, b"late data")), pdu.RELEASE_RP_PDU)
        peer.expect_end()

    with acceptor(behave) as peer:
        connect(peer).release()


def test_release_falls_back_to_abort() -> None:
    """A peer that does not answer a release gets an A-ABORT, and nothing is raised."""

    def behave(peer: Script) -> None:
        accept(peer)
        assert peer.pdu()[0] == pdu.RELEASE_RQ
        assert peer.expect_abort() == (pdu.SERVICE_USER, 0)

    with acceptor(behave) as peer:
        association = connect(peer)
        association.release()
        assert not association.usable


def test_an_error_in_the_with_block_aborts() -> None:
    """An error does not wait for a release."""
    with edge() as it:
        with pytest.raises(KeyError), associate(it.peer, calling_ae_title="US", contexts=[ECHO]):
            raise KeyError
        it.wait_ended()
        assert [word for word, _ in it.policy.outcomes] == ["aborted_by_peer"]


def test_many_sends_miss_no_response() -> None:
    """2000 small instances to a fast peer: every response belongs to its own request."""
    with edge() as it:
        with associate(it.peer, calling_ae_title="US", contexts=[CT_IMPLICIT]) as association:
            for number in range(2000):
                assert association.store(CT_IMPLICIT, f"1.{number}", [b"data"]) == (0, "")
        it.wait_ended()
        assert len(it.policy.received) == 2000
