"""Receive the DIMSE messages of one association, and answer each request.

A message is a command set and, for C-STORE, a data set; both arrive as PDVs (PS3.8 §E.1). A `StoreHandler`
gets the data set of a C-STORE: each call gives it the fragments that one read brought. Its status becomes the
C-STORE-RSP. C-ECHO is answered here; any other request gets a failure status.

Nothing is stored here. If the process dies, the peer got no response and still owns the instance.
"""

import time
from collections.abc import Callable

from gateway.dicom import command as dimse
from gateway.dicom import pdu
from gateway.dicom.contexts import VERIFICATION
from gateway.dicom.policy import Policy, Requestor, StoreHandler, StoreRequest
from gateway.dicom.wire import Wire
from gateway.domain.dimse_status import Status

_MOST_FRAGMENTS = 64
"""The handler may write all of them with one system call, which takes at most 1024 (IOV_MAX)."""


class _FixedResponse:
    """A response that is decided before the data set is read; the data set, if there is one, is ignored."""

    def __init__(self, status: int, comment: str) -> None:
        self._answer = (status, comment)

    def write(self, *fragments: memoryview) -> None:
        """Ignore the fragments."""

    def finish(self) -> tuple[int, str]:
        """Return the decided status and comment."""
        return self._answer

    def answered(self) -> None:
        """Do nothing."""

    def abandon(self, reason: str) -> None:
        """Do nothing."""


class Messages:
    """The messages of one association on the acceptor's side.

    `contexts` are the accepted ones: context id -> abstract syntax, transfer syntax.
    """

    def __init__(
        self,
        wire: Wire,
        policy: Policy,
        requestor: Requestor,
        contexts: dict[int, tuple[str, str]],
        peer_max_pdu_bytes: int,
        *,
        not_stored: Callable[[Requestor, str, int, str], None],
    ) -> None:
        self._not_stored = not_stored
        self._wire = wire
        wire.before_read = self._write
        self._policy = policy
        self._requestor = requestor
        self._contexts = contexts
        self._peer_max_pdu_bytes = peer_max_pdu_bytes
        self._command = bytearray()  # the part of a command set that was received
        self._context_id = 0  # of the message that is being received
        self._request: dimse.CommandSet | None = None  # the request whose data set is being received
        self._handler: StoreHandler | None = None  # the handler of that data set
        self._fragments: list[memoryview] = []  # of that data set, received and not yet given to the handler

    @property
    def in_data_set(self) -> bool:
        """True while a data set is being received."""
        return self._request is not None

    @property
    def in_message(self) -> bool:
        """True while a message is being received; False between two messages."""
        return self._request is not None or bool(self._command)

    def receive(self, remaining: int) -> None:
        """Receive all PDVs of one P-DATA PDU whose body has `remaining` bytes.

        Raises:
            PduError: the peer sent what PS3.8 or PS3.7 forbids.
            AssociationBrokenError: the peer aborted, closed the connection, or was silent for too long.
        """
        wire = self._wire
        while remaining:
            context_id, control, count = wire.pdv_header(remaining)
            remaining -= pdu.PDV_OVERHEAD + count
            if control & pdu.IS_COMMAND:
                self._receive_command(context_id, count)
                if control & pdu.IS_LAST:
                    self._begin()
                continue
            handler = self._handler
            if handler is None or context_id != self._context_id:
                raise pdu.PduError("data set fragment without a command", pdu.UNEXPECTED_PDU_PARAMETER)
            while count:
                fragment = wire.piece(count)
                count -= len(fragment)
                self._fragments.append(fragment)
                if len(self._fragments) == _MOST_FRAGMENTS:
                    self._write()
            if control & pdu.IS_LAST:
                self._write()
                self._finish()

    def abandon(self, reason: str) -> None:
        """Abandon the data set that is being received, if there is one."""
        self._fragments.clear()
        if self._handler is not None:
            self._handler.abandon(reason)

    def _write(self) -> None:
        """Give the handler what was received, before its memory is used again."""
        if not self._fragments:
            return
        assert self._handler is not None, "only a data set has fragments"
        fragments, self._fragments = self._fragments, []
        began = time.monotonic()
        self._handler.write(*fragments)
        self._wire.deadline += time.monotonic() - began  # our own time is not silence of the peer

    def _receive_command(self, context_id: int, count: int) -> None:
        """Receive one fragment of a command set."""
        if self._request is not None or (self._command and context_id != self._context_id):
            raise pdu.PduError("command fragment in the middle of a message", pdu.UNEXPECTED_PDU_PARAMETER)
        if context_id not in self._contexts:
            raise pdu.PduError(f"presentation context {context_id} was not accepted")
        if len(self._command) + count > dimse.MAX_COMMAND_BYTES:
            raise pdu.PduError(f"command set of more than {dimse.MAX_COMMAND_BYTES} bytes")
        self._context_id = context_id
        self._command += self._wire.take(count)

    def _begin(self) -> None:
        """Answer a complete command set, or prepare to receive its data set."""
        request = dimse.CommandSet(self._command)
        self._command.clear()
        field = request.required(dimse.COMMAND_FIELD)
        has_data_set = request.has_data_set()
        if field & dimse.IS_RESPONSE:
            raise pdu.PduError(f"response 0x{field:04X} without a request", pdu.UNEXPECTED_PDU_PARAMETER)
        if field == dimse.C_CANCEL_RQ and not has_data_set:
            return  # There is no operation to cancel, and C-CANCEL has no response: PS3.7 §9.3.2.3.
        handler = self._handler_for(field, request, has_data_set=has_data_set)
        if has_data_set:
            self._request, self._handler = request, handler
        else:
            self._answer(request, handler)

    def _handler_for(self, field: int, request: dimse.CommandSet, *, has_data_set: bool) -> StoreHandler:
        """Return the handler that receives the data set, if there is one, and decides the response."""
        message_id = request.required(dimse.MESSAGE_ID)
        if field == dimse.C_ECHO_RQ:
            return _FixedResponse(Status.SUCCESS, "")
        if field != dimse.C_STORE_RQ:
            return _FixedResponse(Status.UNRECOGNIZED_OPERATION, "only C-STORE and C-ECHO are served")
        if not has_data_set:
            return self._refusal(request, Status.CANNOT_UNDERSTAND, "C-STORE without a data set")
        abstract_syntax_uid, transfer_syntax_uid = self._contexts[self._context_id]
        sop_class_uid = request.text(dimse.AFFECTED_SOP_CLASS_UID)
        # Some senders use the context of another SOP Class. Accept such an instance if its own SOP Class is
        # accepted, but never in a context for Verification.
        if abstract_syntax_uid == VERIFICATION or (
            sop_class_uid != abstract_syntax_uid and sop_class_uid not in self._policy.accepted_sop_classes
        ):
            comment = "SOP Class does not belong to its context"
            return self._refusal(request, Status.SOP_CLASS_NOT_SUPPORTED, comment)
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

    def _refusal(self, request: dimse.CommandSet, status: Status, comment: str) -> StoreHandler:
        """Return the refusal of a C-STORE, and report it."""
        uid = request.text(dimse.AFFECTED_SOP_INSTANCE_UID)
        self._not_stored(self._requestor, uid, status, comment)
        return _FixedResponse(status, comment)

    def _finish(self) -> None:
        """Answer the request whose data set is complete."""
        request, handler = self._request, self._handler
        assert request is not None
        assert handler is not None
        # Reset both before `finish`: a finished handler must not be abandoned, even if sending fails.
        self._request = self._handler = None
        self._answer(request, handler)

    def _answer(self, request: dimse.CommandSet, handler: StoreHandler) -> None:
        """Send the handler's response."""
        command_set = dimse.response(request, *handler.finish())
        try:
            self._wire.send(pdu.command_pdus(self._context_id, command_set, self._peer_max_pdu_bytes))
        finally:
            handler.answered()
