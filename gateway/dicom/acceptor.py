"""The acceptor of associations: C-STORE and C-ECHO, one blocking thread per association.

First stage in the life of an instance: its data set passes from the wire to a `StoreHandler`, fragment
by fragment, and whatever that answers goes back as the C-STORE-RSP. Nothing is kept here: if the process
dies inside, the peer got no response and still owes the instance.

States and what a peer may do wrong in them are those of PS3.8 §9.2, Table 9-10; the actions are
named beside the code (AE-6, AA-8, …).
"""

import os
import socket
import ssl
import time
import weakref
from typing import NoReturn

from gateway.dicom import command as dimse
from gateway.dicom import pdu
from gateway.dicom.contexts import ACCEPTANCE, VERIFICATION, accept, declined
from gateway.dicom.negotiation import APPLICATION_CONTEXT, decode_request, encode_accept, text_of
from gateway.dicom.policy import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    TEMPORARY_CONGESTION,
    AbortAssociation,
    Contexts,
    Policy,
    Rejection,
    Requestor,
    StoreHandler,
    StoreRequest,
    Timeouts,
)
from gateway.dicom.tls import secure
from gateway.dicom.wire import AbortedByPeerError, ClosedByPeerError, TimedOutError, Wire, WokenError
from gateway.domain.dimse_status import Status

__all__ = (
    "CALLED_AE_TITLE_NOT_RECOGNIZED",
    "CALLING_AE_TITLE_NOT_RECOGNIZED",
    "LOCAL_LIMIT_EXCEEDED",
    "TEMPORARY_CONGESTION",
    "AbortAssociation",
    "Acceptor",
    "Contexts",
    "Policy",
    "Rejection",
    "Requestor",
    "StoreHandler",
    "StoreRequest",
    "Timeouts",
)

_LINGER_SECONDS = 2.0
"""How long a peer may take to close after our last PDU; ARTIM may be shorter. Must exceed a round trip."""

_PDU_SLACK_BYTES = 4096
"""Some peers count their headers wrongly; what we announced plus this is let through, since we stream it."""

_UNLIMITED = 1 << 32

ANY_CONTEXT = Contexts()
"""Every transfer syntax is accepted, and nobody is told what is declined."""


class Acceptor:
    """Serves associations on the threads that call `serve`, until `stop`.

    Made in the process that serves, after any fork: `stop` is not for siblings. With `tls` an association
    begins with a handshake, and who does not manage it within ARTIM is not heard.
    """

    def __init__(
        self,
        policy: Policy,
        max_pdu_bytes: int,
        timeouts: Timeouts,
        *,
        tls: ssl.SSLContext | None = None,
        contexts: Contexts = ANY_CONTEXT,
    ) -> None:
        self._policy = policy
        self._negotiated = contexts
        self._tls = tls
        self._max_pdu_bytes = max_pdu_bytes
        self._timeouts = timeouts
        # The write end is closed to stop: every association that waits sees its read end hang up.
        self._waker, write_end = os.pipe()
        weakref.finalize(self, os.close, self._waker)
        self._stop = weakref.finalize(self, os.close, write_end)

    def stop(self) -> None:
        """End every association that waits at once, every other after the instance it is in the middle of.

        Returns at once; `serve` returns on its threads.
        """
        self._stop()

    def serve(self, sock: socket.socket, address: tuple[str, int] | tuple[str, int, int, int]) -> None:
        """Run one association from its first byte to its end; the socket is closed then.

        Whatever the peer does is told to the policy, not raised. What the policy raises (save
        `AbortAssociation`) aborts the association and is raised here.
        """
        try:
            wire = self._wire(sock)
        except (TimedOutError, WokenError, ClosedByPeerError) as end:
            sock.close()
            self._policy.ended_unadmitted(address[0], _OUTCOMES[type(end)], str(end))
            return
        try:
            _Association(
                self._policy, self._max_pdu_bytes, self._timeouts, wire, address, contexts=self._negotiated
            ).run()
        finally:
            wire.close()

    def _wire(self, sock: socket.socket) -> Wire:
        silence_seconds = self._timeouts.network_seconds
        if self._tls is None:
            return Wire(sock, silence_seconds=silence_seconds, waker=self._waker)
        return secure(
            sock,
            self._tls,
            deadline=time.monotonic() + self._timeouts.artim_seconds,
            silence_seconds=silence_seconds,
            waker=self._waker,
        )


class _FixedResponse:
    """The reception of a data set that is read over, because its request is refused."""

    def __init__(self, status: int, comment: str) -> None:
        self._answer = (status, comment)

    def write(self, fragment: memoryview) -> None:
        """Read over it."""

    def finish(self) -> tuple[int, str]:
        """The refusal."""
        return self._answer

    def answered(self) -> None:
        """Nothing is held."""

    def abandon(self, reason: str) -> None:
        """Nothing is held."""


class _Released(Exception):  # noqa: N818  an end, not an error
    """The peer released the association and was answered."""


_OUTCOMES: dict[type[Exception], str] = {
    _Released: "released",
    AbortedByPeerError: "aborted_by_peer",
    ClosedByPeerError: "lost",
    TimedOutError: "timeout",
    WokenError: "stopped",
    AbortAssociation: "aborted",
    pdu.PduError: "aborted",
}
"""Every way in which an association ends, and the word that the policy hears."""


class _Association:
    """One association on the acceptor's side."""

    def __init__(
        self,
        policy: Policy,
        max_pdu_bytes: int,
        timeouts: Timeouts,
        wire: Wire,
        address: tuple[str, int] | tuple[str, int, int, int],
        *,
        contexts: Contexts,
    ) -> None:
        self._policy = policy
        self._negotiated = contexts
        self._max_pdu_bytes = max_pdu_bytes
        self._timeouts = timeouts
        self._wire = wire
        self._remote_address, self._remote_port = address[0], address[1]
        self._peer_max_pdu_bytes = 0
        self._contexts: dict[int, tuple[str, str]] = {}  # id -> abstract syntax, transfer syntax
        self._requestor: Requestor | None = None
        self._command = bytearray()
        self._context_id = 0  # of the message that is being received
        self._request: dimse.CommandSet | None = None  # whose data set is being received
        self._reception: StoreHandler | None = None

    def run(self) -> None:
        """From the first byte to the end."""
        outcome, error, last = "aborted", "unforeseen error", pdu.abort_pdu(pdu.SERVICE_USER, 0)
        try:
            outcome, error, last = self._run_to_end()
        finally:
            if self._reception is not None:
                self._reception.abandon(error or outcome)
            if last:
                self._wire.send_last(last, min(_LINGER_SECONDS, self._timeouts.artim_seconds))
            if self._requestor is not None:
                self._policy.ended(self._requestor, outcome, error or None)
            elif outcome:
                self._policy.ended_unadmitted(self._remote_address, outcome, error)

    def _run_to_end(self) -> tuple[str, str, bytes]:
        """Run, and return how it ended: outcome, error, and the PDU that is still to be sent."""
        try:
            rejection = self._establish()
            if rejection is not None:
                return rejection
            self._transfer()
        except tuple(_OUTCOMES) as end:
            return _OUTCOMES[type(end)], str(end), self._last_pdu(end)

    def _last_pdu(self, end: BaseException) -> bytes:
        """What the peer is told at last; empty where there is nobody to tell."""
        if isinstance(end, _Released):
            return pdu.RELEASE_RP_PDU
        if isinstance(end, AbortedByPeerError | ClosedByPeerError):
            return b""
        if self._requestor is None and isinstance(end, TimedOutError | WokenError):
            return b""  # before an association, ARTIM just closes: AA-2
        if self._requestor is not None and isinstance(end, pdu.PduError):
            return pdu.abort_pdu(pdu.SERVICE_PROVIDER, end.reason)  # AA-8
        return pdu.abort_pdu(pdu.SERVICE_USER, 0)  # AA-1, or our own wish

    # ---- establishment: Sta2 and Sta3 ----------------------------------------------------------------

    def _establish(self) -> tuple[str, str, bytes] | None:
        """Answer the A-ASSOCIATE-RQ; None when there is an association now."""
        wire = self._wire
        wire.deadline = time.monotonic() + self._timeouts.artim_seconds
        pdu_type, length = pdu.HEADER.unpack(wire.take_patiently(pdu.HEADER.size))
        if pdu_type == pdu.ABORT:
            raise AbortedByPeerError("aborted by the peer before it asked for an association")
        if pdu_type != pdu.ASSOCIATE_RQ:
            raise pdu.unexpected(pdu_type)
        if length > pdu.MAX_ASSOCIATE_BYTES:
            raise pdu.PduError(f"A-ASSOCIATE-RQ with a length of {length}")
        request = decode_request(wire.take_patiently(length))
        wire.deadline = float("inf")
        for supported, rejection in (
            (request.speaks_version_1(), PROTOCOL_VERSION_NOT_SUPPORTED),
            (request.application_context == APPLICATION_CONTEXT, APPLICATION_CONTEXT_NOT_SUPPORTED),
        ):
            if not supported:
                return "rejected", rejection.word, _reject_pdu(rejection)
        requestor = Requestor(
            calling_ae_title=text_of(request.calling_ae_title),
            called_ae_title=text_of(request.called_ae_title),
            remote_address=self._remote_address,
            remote_port=self._remote_port,
        )
        refused = self._policy.admit(requestor)
        if refused is not None:
            return "", "", _reject_pdu(refused)  # no outcome: whoever refuses tells of it
        self._requestor = requestor
        answers = accept(
            request.offers, self._policy.accepted_sop_classes, self._negotiated.transfer_syntaxes
        )
        offers = {offer.context_id: offer.abstract_syntax_uid for offer in request.offers}
        self._contexts = {
            answer.context_id: (offers[answer.context_id], answer.transfer_syntax_uid)
            for answer in answers
            if answer.result == ACCEPTANCE
        }
        self._peer_max_pdu_bytes = request.max_pdu_bytes
        wire.send(encode_accept(request, answers, self._max_pdu_bytes))
        if refused_contexts := declined(request.offers, answers):
            self._negotiated.declined(requestor, refused_contexts)
        return None

    # ---- data transfer: Sta6 -------------------------------------------------------------------------

    def _transfer(self) -> NoReturn:
        """Serve messages; ends by an exception only."""
        wire = self._wire
        idle_seconds, network_seconds = self._timeouts.idle_seconds, self._timeouts.network_seconds
        largest = self._max_pdu_bytes + _PDU_SLACK_BYTES if self._max_pdu_bytes else _UNLIMITED
        while True:
            if self._request is None and not self._command:
                # Between messages. Also asks, after every instance, whether this side is stopping.
                wire.wait_for_message(idle_seconds)
            pdu_type, length = wire.header()
            # What began must end in this time, so that a byte a minute does not hold a thread for ever.
            wire.deadline = time.monotonic() + network_seconds
            if pdu_type == pdu.P_DATA_TF:
                if length > largest:
                    raise pdu.PduError(f"P-DATA-TF with a length of {length}")
                self._receive_data(length)
            elif pdu_type == pdu.RELEASE_RQ:
                pdu.check_short(pdu_type, length)
                wire.skip(length)
                raise _Released("" if self._request is None else "released in the middle of a data set")
            elif pdu_type == pdu.ABORT:
                raise wire.abort_error(length)
            else:
                raise pdu.unexpected(pdu_type)
            wire.deadline = float("inf")

    def _receive_data(self, remaining: int) -> None:
        """Take all PDVs of one P-DATA PDU."""
        wire = self._wire
        while remaining:
            context_id, control, count = wire.pdv_header(remaining)
            remaining -= pdu.PDV_OVERHEAD + count
            if control & pdu.IS_COMMAND:
                self._receive_command(context_id, count)
                if control & pdu.IS_LAST:
                    self._begin()
                continue
            reception = self._reception
            if reception is None or context_id != self._context_id:
                raise pdu.PduError(
                    "data set fragment that no command announced", pdu.UNEXPECTED_PDU_PARAMETER
                )
            while count:
                fragment = wire.piece(count)
                count -= len(fragment)
                began = time.monotonic()
                reception.write(fragment)
                wire.deadline += time.monotonic() - began  # our disk's time is not the peer's
            if control & pdu.IS_LAST:
                self._finish()

    def _receive_command(self, context_id: int, count: int) -> None:
        """Take one fragment of a command set."""
        if self._request is not None or (self._command and context_id != self._context_id):
            raise pdu.PduError("command fragment in the middle of a message", pdu.UNEXPECTED_PDU_PARAMETER)
        if context_id not in self._contexts:
            raise pdu.PduError(f"presentation context {context_id} was not accepted")
        if len(self._command) + count > dimse.MAX_COMMAND_BYTES:
            raise pdu.PduError("command set without an end")
        self._context_id = context_id
        self._command += self._wire.take(count)

    # ---- messages ------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """A command set is whole: answer it, or begin to take its data set."""
        request = dimse.CommandSet(self._command)
        self._command.clear()
        field = request.required(dimse.COMMAND_FIELD)
        has_data_set = request.has_data_set()
        if field & dimse.IS_RESPONSE:
            raise pdu.PduError(f"response 0x{field:04X} to no request", pdu.UNEXPECTED_PDU_PARAMETER)
        if field == dimse.C_CANCEL_RQ and not has_data_set:
            return  # for an operation that is over, or none at all; it has no response (PS3.7 §9.3.2.3)
        reception = self._reception_for(field, request, has_data_set=has_data_set)
        if has_data_set:
            self._request, self._reception = request, reception
        else:
            self._answer(request, reception)

    def _reception_for(self, field: int, request: dimse.CommandSet, *, has_data_set: bool) -> StoreHandler:
        """What takes the data set of a request, or answers for it where there is none."""
        message_id = request.required(dimse.MESSAGE_ID)
        if field == dimse.C_ECHO_RQ:
            return _FixedResponse(Status.SUCCESS, "")
        if field != dimse.C_STORE_RQ:
            return _FixedResponse(Status.UNRECOGNIZED_OPERATION, "only C-STORE and C-ECHO are served")
        if not has_data_set:
            return _FixedResponse(Status.CANNOT_UNDERSTAND, "C-STORE without a data set")
        abstract_syntax_uid, transfer_syntax_uid = self._contexts[self._context_id]
        sop_class_uid = request.text(dimse.AFFECTED_SOP_CLASS_UID)
        # A SOP Class that differs from its context's is let through where we take it at all: an image
        # is worth more than the mistake. Verification is no context to store in.
        if abstract_syntax_uid == VERIFICATION or (
            sop_class_uid != abstract_syntax_uid and sop_class_uid not in self._policy.accepted_sop_classes
        ):
            return _FixedResponse(Status.SOP_CLASS_NOT_SUPPORTED, "SOP Class does not belong to its context")
        assert self._requestor is not None
        return self._policy.store(
            self._requestor,
            StoreRequest(
                message_id=message_id,
                sop_class_uid=sop_class_uid,
                sop_instance_uid=request.text(dimse.AFFECTED_SOP_INSTANCE_UID),
                transfer_syntax_uid=transfer_syntax_uid,
                priority=request.number(dimse.PRIORITY) or 0,
            ),
        )

    def _finish(self) -> None:
        """A data set is whole: let the reception answer it."""
        request, reception = self._request, self._reception
        assert request is not None
        assert reception is not None
        self._request = self._reception = None  # before the call: after it, nothing may be abandoned
        self._answer(request, reception)

    def _answer(self, request: dimse.CommandSet, reception: StoreHandler) -> None:
        command_set = dimse.response(request, *reception.finish())
        try:
            self._wire.send(pdu.command_pdus(self._context_id, command_set, self._peer_max_pdu_bytes))
        finally:
            reception.answered()


def _reject_pdu(rejection: Rejection) -> bytes:
    return pdu.reject_pdu(rejection.result, rejection.source, rejection.reason)
