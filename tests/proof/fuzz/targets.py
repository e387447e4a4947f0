"""Every parser of bytes from the wire, as a function that raises only if a guarantee is violated.

Hypothesis calls them in tests/unit, atheris in `guided`. A parser may raise its own error, and nothing
else.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from ipaddress import ip_address

from support.dicom_peers import CT, EXPLICIT, IMPLICIT, RecordingPolicy

from gateway.dicom import command, negotiation, pdu
from gateway.dicom.acceptor import Acceptor
from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.contexts import Offer, ProposedContext, accept
from gateway.dicom.dataset.header import read_header
from gateway.dicom.dataset.part10 import read_file_meta
from gateway.dicom.policy import Timeouts
from gateway.dicom.requestor import read_answer
from gateway.dicom.wire import Wire
from gateway.domain.allowlist import address_of, parse
from gateway.domain.identifiers import is_ae_title, is_uid, printable
from gateway.errors import DataSetError, PeerError

BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
SYNTAXES = (EXPLICIT, IMPLICIT, BIG, DEFLATED)
MAX_BYTES = 64 * 1024
"""Both sides' bytes must fit the kernel's buffers, since neither side reads while the other writes."""

_TIMEOUTS = Timeouts(artim_seconds=2, network_seconds=2, idle_seconds=2)
_PEER = PeerAddress("127.0.0.1", 104, "PEER", timeout_seconds=2, connect_timeout_seconds=2)
_CONTEXT = ProposedContext(CT, IMPLICIT)


def associate_request(raw: bytes) -> None:
    """Decode an A-ASSOCIATE-RQ: a valid one is answered, and the answer can be decoded."""
    try:
        request = negotiation.decode_request(raw)
    except pdu.PduError:
        return
    answers = accept(request.offers, frozenset({CT}))
    assert len(answers) == len(request.offers)
    encoded = negotiation.encode_accept(request, answers, 16_384)
    read = negotiation.decode_accept(encoded[pdu.HEADER.size :])
    assert [answer.context_id for answer in read.answers] == [offer.context_id for offer in request.offers]


def associate_accept(raw: bytes) -> None:
    """Decode an A-ASSOCIATE-AC."""
    with contextlib.suppress(pdu.PduError):
        negotiation.decode_accept(raw)


def command_set(raw: bytes) -> None:
    """Decode a command set; one with the elements of a request gets a response that can be decoded."""
    try:
        request = command.CommandSet(raw)
        answer = command.response(request, 0xC000, "comment")
    except pdu.PduError:
        return
    read = command.CommandSet(answer)
    assert read.required(command.MESSAGE_ID_BEING_RESPONDED_TO) == request.required(command.MESSAGE_ID)
    assert not read.has_data_set()


def header(raw: bytes) -> None:
    """Read a data set in each encoding, with references and without."""
    descriptor = os.memfd_create("data-set")
    try:
        os.write(descriptor, raw)
        for syntax in SYNTAXES:
            for with_references in (False, True):
                try:
                    found = read_header(descriptor, 0, syntax, with_references=with_references)
                except DataSetError:
                    continue
                assert found.sop_instance_uid
                assert found.study_instance_uid
    finally:
        os.close(descriptor)


def part10(raw: bytes) -> None:
    """Read a Part 10 file."""
    try:
        meta = read_file_meta(raw)
    except DataSetError:
        return
    assert 132 <= meta.data_set_offset <= len(raw)


def acceptor(raw: bytes) -> None:
    """Run the whole acceptor: it ends, raises nothing, and each reception ends exactly once."""
    ours, theirs = socket.socketpair()
    policy = RecordingPolicy()
    with ours:
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            ours.send(raw[:MAX_BYTES])
        ours.shutdown(socket.SHUT_WR)
        Acceptor(policy, 16_384, _TIMEOUTS).serve(theirs, ("127.0.0.1", 1))
    assert theirs.fileno() == -1
    assert len(policy.outcomes) + len(policy.unadmitted) == 1
    for received in policy.received:
        assert received.finished != (received.abandoned is not None)


def associated_acceptor(raw: bytes) -> None:
    """Run it behind a valid A-ASSOCIATE-RQ, where more can go wrong."""
    acceptor(ASSOCIATE + raw)


def requestor(raw: bytes) -> None:
    """Feed the bytes to our requestor as answers: it returns a status, or raises an error about the peer."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.send(raw[:MAX_BYTES])
        theirs.shutdown(socket.SHUT_WR)
        wire = Wire(ours, silence_seconds=2)
        wire.deadline = time.monotonic() + 2
        try:
            _store(read_answer(_PEER, wire, {1: _CONTEXT}))
        except PeerError:
            return
        finally:
            wire.close()


def associated_requestor(raw: bytes) -> None:
    """Do the same behind a valid A-ASSOCIATE-AC."""
    requestor(ACCEPTED + raw)


def _store(association: Association) -> None:
    status, comment = association.store(_CONTEXT, "1.2.3", [b"data"])
    assert 0 <= status <= 0xFFFF
    assert isinstance(comment, str)


def identifiers(raw: bytes) -> None:
    """Check that an accepted UID is a plain file name, and that printable text is one bounded line."""
    for text in (raw.decode("latin-1"), raw.decode("utf-8", "replace")):
        shown = printable(text)
        assert len(shown) <= 65
        assert all(" " <= c <= "~" or c == "…" for c in shown)
        if is_uid(text):
            assert set(text) <= set("0123456789.")
            assert text[0].isdigit(), "never a folder: not `.` nor `..`"
            assert 1 <= len(text) <= 64
        if is_ae_title(text):
            assert shown == text
            assert text == text.strip()


def allowlist(raw: bytes) -> None:
    """Check that an entry of the allowlist is parsed, or refused with a sentence."""
    for text in (raw.decode("latin-1"), raw.decode("utf-8", "replace")):
        try:
            entry = parse(text)
        except ValueError as error:
            assert str(error)  # noqa: PT017  whatever it says, it says something
        else:
            assert is_ae_title(entry.ae_title)
        with contextlib.suppress(ValueError):
            assert ip_address(str(address_of(text)))


ASSOCIATE = negotiation.encode_request(
    called_ae_title="EDGE",
    calling_ae_title="FUZZ",
    offers=(Offer(1, CT, (IMPLICIT,)), Offer(3, "1.2.840.10008.1.1", (IMPLICIT,))),
    max_pdu_bytes=16_384,
)
_REQUEST = negotiation.decode_request(ASSOCIATE[pdu.HEADER.size :])
ACCEPTED = negotiation.encode_accept(_REQUEST, accept(_REQUEST.offers, frozenset({CT})), 16_384)

TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        associate_request,
        associate_accept,
        command_set,
        header,
        part10,
        acceptor,
        associated_acceptor,
        requestor,
        associated_requestor,
        identifiers,
        allowlist,
    )
}
