"""The requestor of associations: C-STORE and C-ECHO to a peer, on the caller's thread.

The stage of forwarding that crosses the network. An instance is the peer's when `store` has returned a
status that says so, and at no earlier time: if the process dies inside, the delivery is repeated. An
association is never used again after anything unexpected: a late response would be taken for that of the
next instance.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gateway.dicom import command as dimse
from gateway.dicom import pdu
from gateway.dicom.contexts import ACCEPTANCE, MAX_CONTEXTS, VERIFICATION, Offer, ProposedContext
from gateway.dicom.negotiation import decode_accept, encode_request
from gateway.dicom.p_data import Readable, pdu_batches, readable
from gateway.dicom.tls import secure
from gateway.dicom.wire import AbortedByPeerError, ClosedByPeerError, Wire
from gateway.errors import (
    AssociationAbortedError,
    AssociationBrokenError,
    AssociationRejectedError,
    ContextNotAcceptedError,
    ContextNotProposedError,
    PeerAwayError,
    PeerError,
)

_MAX_RELEASE_SECONDS = 5.0
"""How long a peer may take to answer A-RELEASE-RQ; must exceed a round trip. All is stored by then."""

_MAX_MESSAGE_ID = 0xFFFF

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


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a Storage SCP listens.

    `connect_timeout_seconds` bounds TCP connection and association together. `timeout_seconds` bounds one
    DIMSE response, and any pause in which the peer takes nothing; it must exceed what its disk may need.
    `tls` secures the association; None leaves it plain.
    """

    host: str
    port: int
    ae_title: str
    timeout_seconds: float
    connect_timeout_seconds: float
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


def associate(
    peer: PeerAddress, *, calling_ae_title: str, contexts: Sequence[ProposedContext]
) -> "Association":
    """An association with `peer` that proposed the first 128 different ones of `contexts`.

    Raises:
        AssociationRejectedError: the peer answered A-ASSOCIATE-RJ.
        AssociationAbortedError: the peer aborted or closed the connection instead.
        PeerAwayError: no connection, no answer in time, or anything else but an acceptance.
    """
    offers = {
        2 * index + 1: context for index, context in enumerate(list(dict.fromkeys(contexts))[:MAX_CONTEXTS])
    }
    deadline = time.monotonic() + peer.connect_timeout_seconds
    try:
        sock = socket.create_connection((peer.host, peer.port), timeout=peer.connect_timeout_seconds)
    except OSError as error:
        raise PeerAwayError(f"{peer}: cannot connect: {error.strerror or error}") from error
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
        association = _accepted(peer, wire, offers)
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
        return secure(
            sock,
            peer.tls,
            deadline=deadline,
            silence_seconds=peer.timeout_seconds,
            server_hostname=peer.host,
        )
    except AssociationBrokenError as error:
        sock.close()
        raise PeerAwayError(f"{peer}: {error}") from error


def _accepted(peer: PeerAddress, wire: Wire, offers: dict[int, ProposedContext]) -> "Association":
    """What comes of the answer to our A-ASSOCIATE-RQ (PS3.8 §9.2, Sta5)."""
    pdu_type, length = pdu.HEADER.unpack(wire.take_patiently(pdu.HEADER.size))
    if pdu_type == pdu.ASSOCIATE_RJ and length == pdu.SHORT_BYTES:
        _, result, source, reason = wire.take_patiently(length)
        means = _REJECTIONS.get((source, reason))
        raise AssociationRejectedError(
            f"{peer}: association rejected: result {result}, source {source}, reason {reason}"
            + (f" ({means})" if means else ""),
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
    accept = decode_accept(wire.take_patiently(length))
    accepted = {
        offers[answer.context_id]: answer.context_id
        for answer in accept.answers
        if answer.result == ACCEPTANCE
        and answer.context_id in offers
        and answer.transfer_syntax_uid == offers[answer.context_id].transfer_syntax_uid
    }
    return Association(peer, wire, frozenset(offers.values()), accepted, accept.max_pdu_bytes)


class Association:
    """An open association; used by one thread at a time, released at the end of a `with`."""

    def __init__(
        self,
        peer: PeerAddress,
        wire: Wire,
        proposed: frozenset[ProposedContext],
        context_ids: dict[ProposedContext, int],
        peer_max_pdu_bytes: int,
    ) -> None:
        self.peer = peer
        self.proposed = proposed
        self.accepted = frozenset(context_ids)
        self._wire = wire
        self._context_ids = context_ids
        self._peer_max_pdu_bytes = peer_max_pdu_bytes
        self._message_id = 0
        self._usable = True

    @property
    def usable(self) -> bool:
        """False after an abort, a release, or anything unexpected."""
        return self._usable

    def is_alive(self) -> bool:
        """Tell, without waiting, whether the peer has neither closed, aborted nor said anything since.

        For an association that was idle: a peer may end it at any time, and what is then sent is lost.
        """
        return self._usable and not self._wire.is_readable()

    def store(
        self,
        context: ProposedContext,
        sop_instance_uid: str,
        data_set: Readable | Iterable[bytes | memoryview],
        *,
        priority: int = 0,
    ) -> tuple[int, str]:
        """Send one data set as it is; the peer's status and error comment.

        `data_set` is an open binary file at the first byte of the data set (best unbuffered), or
        its pieces in order. `priority` is 0 for MEDIUM, 1 for HIGH, 2 for LOW. What reading
        `data_set` raises aborts the association and is raised here.

        Raises:
            ContextNotProposedError: nothing was sent; another association may do.
            ContextNotAcceptedError: nothing was sent; this peer never takes it.
            AssociationBrokenError: abort, end of stream, timeout, or an unexpected answer. The
                association is not usable any more, and the peer may or may not have the instance.
        """
        context_id = self._context_id(context)
        message_id = self._next_message_id()
        command_set = dimse.c_store_request(message_id, context.sop_class_uid, sop_instance_uid, priority)
        with self._abort_unless_done():
            head = pdu.command_pdus(context_id, command_set, self._peer_max_pdu_bytes)
            fragment_bytes = pdu.largest_fragment(self._peer_max_pdu_bytes)
            for batch in pdu_batches(head, context_id, readable(data_set), fragment_bytes):
                self._wire.send(batch)
            response = self._response(context_id, message_id, dimse.C_STORE_RSP)
            return response.required(dimse.STATUS), response.text(dimse.ERROR_COMMENT)

    def echo(self) -> int:
        """The status of a C-ECHO; errors as `store`."""
        # One that was accepted, where several were proposed.
        contexts = [c for c in (*self.accepted, *self.proposed) if c.sop_class_uid == VERIFICATION]
        context = next(iter(contexts), None)
        if context is None:
            raise ContextNotProposedError(f"{self.peer}: Verification was not proposed")
        context_id = self._context_id(context)
        message_id = self._next_message_id()
        with self._abort_unless_done():
            command_set = dimse.c_echo_request(message_id, VERIFICATION)
            self._wire.send(pdu.command_pdus(context_id, command_set, self._peer_max_pdu_bytes))
            return self._response(context_id, message_id, dimse.C_ECHO_RSP).required(dimse.STATUS)

    def release(self) -> None:
        """End in order, or abort where the peer does not answer; nothing is raised: all is stored."""
        if not self._usable:
            return
        with contextlib.suppress(PeerError), self._abort_unless_done():
            self._wire.deadline = time.monotonic() + min(_MAX_RELEASE_SECONDS, self.peer.timeout_seconds)
            self._wire.send(pdu.RELEASE_RQ_PDU)
            self._await_release()
            self._usable = False
            self._wire.close()

    def abort(self) -> None:
        """End at once (A-ABORT, service-user); nothing is raised."""
        self._end(pdu.abort_pdu(pdu.SERVICE_USER, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    # ---- inside --------------------------------------------------------------------------------------

    def _context_id(self, context: ProposedContext) -> int:
        if not self._usable:
            raise AssociationBrokenError(f"{self.peer}: the association has ended")
        context_id = self._context_ids.get(context)
        if context_id is not None:
            return context_id
        what = f"{self.peer}: {context.sop_class_uid} in {context.transfer_syntax_uid}"
        if context in self.proposed:
            raise ContextNotAcceptedError(f"{what} was not accepted")
        raise ContextNotProposedError(f"{what} was not proposed")

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % _MAX_MESSAGE_ID + 1
        return self._message_id

    @contextlib.contextmanager
    def _abort_unless_done(self) -> Iterator[None]:
        """Abort the association when its body raises; what PS3.8 forbids is told as broken."""
        done = False
        try:
            yield
            done = True
        except pdu.PduError as error:
            self._end(pdu.abort_pdu(pdu.SERVICE_PROVIDER, error.reason))
            raise AssociationBrokenError(f"{self.peer}: {error}") from error
        finally:
            if not done:
                self.abort()

    def _end(self, last: bytes) -> None:
        if self._usable:
            self._usable = False
            # Without waiting: the peer gets our A-ABORT or a reset, and either ends its side.
            self._wire.send_last(last, linger_seconds=0)
            self._wire.close()

    def _response(self, context_id: int, message_id: int, field: int) -> dimse.CommandSet:
        """The response to the one request that is outstanding."""
        self._wire.deadline = time.monotonic() + self.peer.timeout_seconds
        response = dimse.CommandSet(self._command_set(context_id))
        answered = response.required(dimse.MESSAGE_ID_BEING_RESPONDED_TO)
        if response.required(dimse.COMMAND_FIELD) != field or answered != message_id:
            raise pdu.PduError("a response to another request")
        if response.has_data_set():
            raise pdu.PduError("a response with a data set")
        self._wire.deadline = float("inf")
        return response

    def _command_set(self, context_id: int) -> bytes:
        """The next whole command set; anything else from the peer is an error."""
        wire = self._wire
        raw = bytearray()
        while True:
            pdu_type, remaining = self._next_pdu()
            if pdu_type != pdu.P_DATA_TF:
                raise pdu.unexpected(pdu_type)
            while remaining:
                received_id, control, count = wire.pdv_header(remaining)
                remaining -= pdu.PDV_OVERHEAD + count
                if received_id != context_id or not control & pdu.IS_COMMAND:
                    raise pdu.PduError("neither a command nor on our context", pdu.UNEXPECTED_PDU_PARAMETER)
                if len(raw) + count > dimse.MAX_COMMAND_BYTES:
                    raise pdu.PduError("command set without an end")
                raw += wire.take(count)
                if control & pdu.IS_LAST:
                    if remaining:
                        raise pdu.PduError("more than a response", pdu.UNEXPECTED_PDU_PARAMETER)
                    return bytes(raw)

    def _next_pdu(self) -> tuple[int, int]:
        """Type and length of the next PDU before the deadline; A-ABORT is raised."""
        pdu_type, length = pdu.HEADER.unpack(self._wire.take_patiently(pdu.HEADER.size))
        if pdu_type == pdu.ABORT:
            raise self._wire.abort_error(length)
        return pdu_type, length

    def _await_release(self) -> None:
        """Read until the peer has answered our A-RELEASE-RQ (PS3.8 §9.2, Sta7)."""
        while True:
            pdu_type, length = self._next_pdu()
            if pdu_type == pdu.P_DATA_TF:
                self._wire.skip(length)  # AR-6: nobody waits for it any more
                continue
            pdu.check_short(pdu_type, length)
            self._wire.skip(length)
            if pdu_type == pdu.RELEASE_RP:
                return
            if pdu_type != pdu.RELEASE_RQ:
                raise pdu.unexpected(pdu_type)
            # Collision, AR-8 and AR-9: the requestor answers first and goes on waiting (Sta11).
            self._wire.send(pdu.RELEASE_RP_PDU)
