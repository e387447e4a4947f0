"""The requestor of associations: connect to a peer, negotiate, and return the open `Association`."""

import socket
import time
from collections.abc import Sequence

from gateway.dicom import pdu
from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.contexts import ACCEPTANCE, MAX_CONTEXTS, Offer, ProposedContext
from gateway.dicom.negotiation import decode_accept, encode_request
from gateway.dicom.tls import start_tls
from gateway.dicom.wire import AbortedByPeerError, ClosedByPeerError, Wire
from gateway.errors import (
    AssociationAbortedError,
    AssociationBrokenError,
    AssociationRejectedError,
    PeerAwayError,
    PeerError,
)

# PS3.8 §9.3.4, Table 9-21, by source and reason
_REJECTIONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


def associate(
    peer: PeerAddress, *, calling_ae_title: str, contexts: Sequence[ProposedContext]
) -> Association:
    """Open an association with `peer` that proposes the first 128 different ones of `contexts`.

    Raises:
        AssociationRejectedError: the peer answered A-ASSOCIATE-RJ.
        AssociationAbortedError: the peer aborted or closed the connection instead of answering.
        PeerAwayError: no connection, no answer in time, or an answer that PS3.8 forbids.
    """
    offers = {
        2 * index + 1: context for index, context in enumerate(list(dict.fromkeys(contexts))[:MAX_CONTEXTS])
    }
    began = time.monotonic()
    deadline = began + peer.connect_timeout_seconds
    try:
        sock = socket.create_connection((peer.host, peer.port), timeout=peer.connect_timeout_seconds)
    except OSError as error:
        raise PeerAwayError(f"{peer}: cannot connect: {error.strerror or error}") from error
    except ValueError as error:  # UnicodeError is one: a text that no name server can be asked for
        raise PeerAwayError(f"{peer}: cannot connect: it is no host name") from error
    if time.monotonic() > deadline:  # a look-up of the host name has no limit
        sock.close()
        raise PeerAwayError(
            f"{peer}: cannot connect: the look-up of {peer.host} and the connection took "
            f"{time.monotonic() - began:.0f} s (forwarder.connect_timeout_seconds is "
            f"{peer.connect_timeout_seconds:g})"
        )
    wire = _wire(peer, sock, deadline)
    wire.deadline = deadline
    try:
        wire.send(
            encode_request(
                called_ae_title=peer.ae_title,
                calling_ae_title=calling_ae_title,
                offers=[
                    Offer(context_id, context.sop_class_uid, (context.transfer_syntax_uid,))
                    for context_id, context in offers.items()
                ],
                max_pdu_bytes=pdu.OUR_MAX_PDU_BYTES,
            )
        )
        association = read_answer(peer, wire, offers)
    except PeerAwayError:
        wire.close()
        raise
    except PeerError as error:
        wire.send_last(pdu.abort_pdu(pdu.SERVICE_USER, 0), linger_seconds=0)
        wire.close()
        ended = isinstance(error, (AbortedByPeerError, ClosedByPeerError))
        kind = AssociationAbortedError if ended else PeerAwayError
        raise kind(f"{peer}: no association: {error}") from error
    wire.deadline = float("inf")
    return association


def _wire(peer: PeerAddress, sock: socket.socket, deadline: float) -> Wire:
    if peer.tls is None:
        return Wire(sock, silence_seconds=peer.timeout_seconds)
    try:
        return start_tls(
            sock,
            peer.tls,
            deadline=deadline,
            silence_seconds=peer.timeout_seconds,
            server_hostname=peer.host,
        )
    except AssociationBrokenError as error:
        sock.close()
        raise PeerAwayError(f"{peer}: {error}") from error


def read_answer(peer: PeerAddress, wire: Wire, offers: dict[int, ProposedContext]) -> Association:
    """Read the answer to our A-ASSOCIATE-RQ, and return the association if it is A-ASSOCIATE-AC.

    This is state Sta5 of PS3.8 §9.2, Table 9-10.

    Raises:
        AssociationRejectedError: it is A-ASSOCIATE-RJ.
        PeerError: it is anything else, or did not come.
    """
    pdu_type, length = pdu.HEADER.unpack(wire.take_before_deadline(pdu.HEADER.size))
    if pdu_type == pdu.ASSOCIATE_RJ and length == pdu.SHORT_BYTES:
        _, result, source, reason = wire.take_before_deadline(length)
        meaning = _REJECTIONS.get((source, reason))
        raise AssociationRejectedError(
            f"{peer}: association rejected: result {result}, source {source}, reason {reason}"
            + (f" ({meaning})" if meaning else ""),
            result,
            source,
            reason,
        )
    if pdu_type == pdu.ABORT:
        raise wire.abort_error(length)
    if pdu_type != pdu.ASSOCIATE_AC:
        raise pdu.unexpected(pdu_type)
    if length > pdu.MAX_ASSOCIATE_BYTES:
        raise pdu.PduError(f"A-ASSOCIATE-AC with a length of {length}")
    accept = decode_accept(wire.take_before_deadline(length))
    accepted = {
        offers[answer.context_id]: answer.context_id
        for answer in accept.answers
        if answer.result == ACCEPTANCE
        and answer.context_id in offers
        and answer.transfer_syntax_uid == offers[answer.context_id].transfer_syntax_uid
    }
    return Association(peer, wire, frozenset(offers.values()), accepted, accept.max_pdu_bytes)
