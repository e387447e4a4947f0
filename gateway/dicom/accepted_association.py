"""One association on the acceptor's side, from its first byte to its end.

The states, and the answers to a PDU that a state does not allow, are those of PS3.8 §9.2, Table 9-10; the
actions are named beside the code (AE-6, AA-8, …).
acceptor.py makes the `Wire`, and runs this on the thread of the association. If the process dies, the peer
got no response and still owns the instance.
"""

import time
from typing import NoReturn

from gateway.dicom import pdu
from gateway.dicom.contexts import ACCEPTANCE, accept, declined
from gateway.dicom.dispatch import Messages
from gateway.dicom.negotiation import APPLICATION_CONTEXT, decode_request, encode_accept, text_of
from gateway.dicom.policy import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    AbortAssociation,
    Contexts,
    Observer,
    Policy,
    Rejection,
    Requestor,
    Timeouts,
)
from gateway.dicom.wire import (
    AbortedByPeerError,
    ClosedByPeerError,
    IdleError,
    TimedOutError,
    Wire,
    WokenError,
)

_LINGER_SECONDS = 2.0
"""How long a peer may take to close after our last PDU, unless ARTIM is shorter. Must exceed a round trip."""

_PDU_SLACK_BYTES = 4096
"""A P-DATA PDU may exceed the announced maximum by this: some peers count their headers wrongly."""

_UNLIMITED = 1 << 32


class _Released(Exception):  # noqa: N818  an end, not an error
    """The peer sent A-RELEASE-RQ; A-RELEASE-RP is still to be sent."""


_OUTCOMES: dict[type[Exception], str] = {
    _Released: "released",
    AbortedByPeerError: "aborted_by_peer",
    ClosedByPeerError: "lost",
    TimedOutError: "timeout",
    WokenError: "stopped",
    AbortAssociation: "aborted",
    pdu.PduError: "aborted",
}
"""Every way in which an association ends, and its outcome for `Policy.ended`."""


def outcome_of(end: BaseException) -> str:
    """Return how an association ended, for `Policy.ended`."""
    return next(outcome for kind, outcome in _OUTCOMES.items() if isinstance(end, kind))


class AcceptedAssociation:
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
        observer: Observer,
    ) -> None:
        self._observer = observer
        self._policy = policy
        self._negotiated = contexts
        self._max_pdu_bytes = max_pdu_bytes
        self._timeouts = timeouts
        self._wire = wire
        self._remote_address, self._remote_port = address[0], address[1]
        self._requestor: Requestor | None = None  # set once it is admitted
        self._messages: Messages | None = None

    def run(self) -> None:
        """Serve the association to its end, and report the end to the policy."""
        outcome, error, last_pdu = "aborted", "unforeseen error", pdu.abort_pdu(pdu.SERVICE_USER, 0)
        try:
            outcome, error, last_pdu = self._run_to_end()
        finally:
            if self._messages is not None:
                self._messages.abandon(error or outcome)
            if last_pdu:
                self._wire.send_last(last_pdu, min(_LINGER_SECONDS, self._timeouts.artim_seconds))
            if self._requestor is not None:
                self._policy.ended(self._requestor, outcome, error or None)
            elif outcome:
                self._policy.ended_unadmitted(self._remote_address, outcome, error)

    def _run_to_end(self) -> tuple[str, str, bytes]:
        """Serve, and return the outcome, the error, and the PDU that is still to be sent."""
        try:
            rejection = self._establish()
            if rejection is not None:
                return rejection
            self._transfer()
        except tuple(_OUTCOMES) as end:
            if isinstance(end, TimedOutError | pdu.PduError):
                self._observer.broken(self._requestor, self._remote_address, end)
            return outcome_of(end), str(end), self._last_pdu(end)

    def _last_pdu(self, end: BaseException) -> bytes:
        """Return the last PDU for the peer; empty if there is nothing to send."""
        if isinstance(end, _Released):
            return pdu.RELEASE_RP_PDU
        if isinstance(end, AbortedByPeerError | ClosedByPeerError):
            return b""
        if self._requestor is None and isinstance(end, TimedOutError | WokenError):
            return b""  # before an association, the connection is closed without a PDU: AA-2
        if self._requestor is not None and isinstance(end, pdu.PduError):
            return pdu.abort_pdu(pdu.SERVICE_PROVIDER, end.reason)  # AA-8
        return pdu.abort_pdu(pdu.SERVICE_USER, 0)  # AA-1, or `AbortAssociation`

    # ---- establishment: Sta2 and Sta3 ----------------------------------------------------------------

    def _establish(self) -> tuple[str, str, bytes] | None:
        """Answer the A-ASSOCIATE-RQ; return None if the association is established."""
        wire = self._wire
        wire.deadline = time.monotonic() + self._timeouts.artim_seconds
        pdu_type, length = pdu.HEADER.unpack(wire.take_before_deadline(pdu.HEADER.size))
        if pdu_type == pdu.ABORT:
            raise AbortedByPeerError("aborted by the peer before its A-ASSOCIATE-RQ")
        if pdu_type != pdu.ASSOCIATE_RQ:
            raise pdu.unexpected_first(pdu_type)
        if length > pdu.MAX_ASSOCIATE_BYTES:
            raise pdu.PduError(f"A-ASSOCIATE-RQ with a length of {length}")
        request = decode_request(wire.take_before_deadline(length))
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
        rejected = self._policy.admit(requestor)
        if rejected is not None:
            return "", "", _reject_pdu(rejected)  # no outcome: `admit` has logged the rejection
        self._requestor = requestor
        answers = accept(
            request.offers, self._policy.accepted_sop_classes, self._negotiated.transfer_syntaxes
        )
        offers = {offer.context_id: offer.abstract_syntax_uid for offer in request.offers}
        contexts = {
            answer.context_id: (offers[answer.context_id], answer.transfer_syntax_uid)
            for answer in answers
            if answer.result == ACCEPTANCE
        }
        self._messages = Messages(
            wire,
            self._policy,
            requestor,
            contexts,
            request.max_pdu_bytes,
            not_stored=self._observer.not_stored,
        )
        wire.send(encode_accept(request, answers, self._max_pdu_bytes))
        if not_accepted := declined(request.offers, answers):
            self._negotiated.declined(requestor, not_accepted)
        return None

    # ---- data transfer: Sta6 -------------------------------------------------------------------------

    def _transfer(self) -> NoReturn:
        """Receive PDUs until the association ends; every end is raised as an exception."""
        wire, messages = self._wire, self._messages
        assert messages is not None
        idle_seconds, network_seconds = self._timeouts.idle_seconds, self._timeouts.network_seconds
        longest = self._max_pdu_bytes + _PDU_SLACK_BYTES if self._max_pdu_bytes else _UNLIMITED
        while True:
            if not messages.in_message:
                try:
                    wire.wait_for_message(idle_seconds)  # raises WokenError after `stop`
                except TimedOutError as error:
                    raise IdleError(str(error)) from error
            pdu_type, length = wire.header()
            # One limit for the whole PDU: a peer that sends a byte a minute must not block a thread for ever.
            wire.deadline = time.monotonic() + network_seconds
            if pdu_type == pdu.P_DATA_TF:
                if length > longest:
                    raise pdu.PduError(f"P-DATA-TF with a length of {length}")
                messages.receive(length)
            elif pdu_type == pdu.RELEASE_RQ:
                pdu.check_short(pdu_type, length)
                wire.skip(length)
                raise _Released("released in the middle of a data set" if messages.in_data_set else "")
            elif pdu_type == pdu.ABORT:
                raise wire.abort_error(length)
            else:
                raise pdu.unexpected(pdu_type)
            wire.deadline = float("inf")


def _reject_pdu(rejection: Rejection) -> bytes:
    return pdu.reject_pdu(rejection.result, rejection.source, rejection.reason)
