"""An open association on the requestor's side: C-STORE and C-ECHO to a peer, on the caller's thread.

An instance belongs to the peer only when `store` has returned a status that says so. If the process dies
before that, the delivery is repeated. After anything unexpected the association is not used again: a late
response would be taken for the response to the next instance.
"""

import contextlib
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gateway.dicom import command as dimse
from gateway.dicom import pdu
from gateway.dicom.contexts import VERIFICATION, ProposedContext
from gateway.dicom.p_data import PduBuffers, Readable, pdu_batches, readable
from gateway.dicom.wire import Wire
from gateway.domain.dimse_status import Status
from gateway.domain.identifiers import is_uid
from gateway.errors import (
    AssociationBrokenError,
    ContextNotAcceptedError,
    ContextNotProposedError,
    PeerError,
)

_MAX_RELEASE_SECONDS = 5.0
"""How long a peer may take to answer A-RELEASE-RQ; must exceed a round trip."""

_MAX_MESSAGE_ID = 0xFFFF


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """The address of a Storage SCP, and the limits of an association with it.

    `connect_timeout_seconds` limits TCP connection, TLS and association together. `timeout_seconds` limits
    the wait for one DIMSE response, and any pause in which the peer reads nothing. It must exceed the time
    that the peer's disk may need. `tls` is None for an association without TLS.
    """

    host: str
    port: int
    ae_title: str
    timeout_seconds: float
    connect_timeout_seconds: float
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


class Association:
    """An open association. Only one thread at a time may use it; a `with` releases it at its end."""

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
        self._buffers = PduBuffers()
        self._message_id = 0
        self._usable = True

    @property
    def usable(self) -> bool:
        """True until an abort, a release, or anything unexpected; after that, always False."""
        return self._usable

    def is_alive(self) -> bool:
        """Tell, without waiting, whether the peer has sent nothing and has not closed the connection.

        Call this before an idle association is used again. A request is lost if the peer has already ended
        the association.
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
        """Send one data set unchanged; return the peer's status and error comment.

        `data_set` is an open binary file at the first byte of the data set (best unbuffered), or its chunks
        in order. `priority` is 0 for MEDIUM, 1 for HIGH, 2 for LOW. An error while `data_set` is read aborts
        the association and is raised here.

        Raises:
            ContextNotProposedError: nothing was sent; open another association that proposes the context.
            ContextNotAcceptedError: nothing was sent; the peer does not accept the context.
            AssociationBrokenError: abort, end of stream, timeout, or an unexpected answer. The
                association is no longer usable, and the peer may or may not have stored the instance.
        """
        context_id = self._context_id(context)
        message_id = self._next_message_id()
        command_set = dimse.c_store_request(message_id, context.sop_class_uid, sop_instance_uid, priority)
        with self._abort_unless_done():
            head = pdu.command_pdus(context_id, command_set, self._peer_max_pdu_bytes)
            fragment_bytes = pdu.largest_fragment(self._peer_max_pdu_bytes)
            source = readable(data_set)
            for batch in pdu_batches(head, context_id, source, fragment_bytes, self._buffers):
                self._wire.send(batch)
            response = self._response(context_id, message_id, dimse.C_STORE_RSP)
            status = response.required(dimse.STATUS)
            named = response.text(dimse.AFFECTED_SOP_INSTANCE_UID)
            if status == Status.SUCCESS and named not in {"", sop_instance_uid}:
                # PS3.7 §9.1.1, Table 9.1-1: it shall equal that of the request. Ours may not be stored.
                shown = named if is_uid(named) else "a text that is no UID"  # which may be about a patient
                raise pdu.PduError(f"answered Success for another SOP Instance UID ({shown})")
            return status, response.text(dimse.ERROR_COMMENT)

    def echo(self) -> int:
        """Send a C-ECHO and return its status; raise the errors of `store`."""
        # Several contexts may have been proposed for Verification: prefer an accepted one.
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
        """Release the association, or abort it if the peer does not answer.

        Raises nothing: every C-STORE was answered, so a failure here loses no instance.
        """
        if not self._usable:
            return
        with contextlib.suppress(PeerError), self._abort_unless_done():
            self._wire.deadline = time.monotonic() + min(_MAX_RELEASE_SECONDS, self.peer.timeout_seconds)
            self._wire.send(pdu.RELEASE_RQ_PDU)
            self._await_release()
            self._usable = False
            self._wire.close()

    def abort(self) -> None:
        """Abort the association (A-ABORT, service-user); raise nothing."""
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
        """Abort the association if the body raises; turn `PduError` into `AssociationBrokenError`."""
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
            # Do not wait for the peer to close: it gets our A-ABORT or a reset, and both end its side.
            self._wire.send_last(last, linger_seconds=0)
            self._wire.close()

    def _response(self, context_id: int, message_id: int, field: int) -> dimse.CommandSet:
        """Wait for the response to the request that was just sent."""
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
        """Return the next complete command set; anything else from the peer is an error."""
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
                    raise pdu.PduError(
                        "not a command on the context of the request", pdu.UNEXPECTED_PDU_PARAMETER
                    )
                if len(raw) + count > dimse.MAX_COMMAND_BYTES:
                    raise pdu.PduError(f"command set of more than {dimse.MAX_COMMAND_BYTES} bytes")
                raw += wire.take(count)
                if control & pdu.IS_LAST:
                    if remaining:
                        raise pdu.PduError("data after a response", pdu.UNEXPECTED_PDU_PARAMETER)
                    return bytes(raw)

    def _next_pdu(self) -> tuple[int, int]:
        """Return type and length of the next PDU; raise A-ABORT as an error."""
        pdu_type, length = pdu.HEADER.unpack(self._wire.take_before_deadline(pdu.HEADER.size))
        if pdu_type == pdu.ABORT:
            raise self._wire.abort_error(length)
        return pdu_type, length

    def _await_release(self) -> None:
        """Read until the peer answers our A-RELEASE-RQ (PS3.8 §9.2, Table 9-10, Sta7)."""
        while True:
            pdu_type, length = self._next_pdu()
            if pdu_type == pdu.P_DATA_TF:
                self._wire.skip(length)  # AR-6; ignored, because no request waits for a response
                continue
            pdu.check_short(pdu_type, length)
            self._wire.skip(length)
            if pdu_type == pdu.RELEASE_RP:
                return
            if pdu_type != pdu.RELEASE_RQ:
                raise pdu.unexpected(pdu_type)
            # Release collision, AR-8 and AR-9: the requestor answers first and waits on (Sta11).
            self._wire.send(pdu.RELEASE_RP_PDU)
