"""Note what the acceptor turns away by itself: connections, handshakes, silence, bytes that are no DICOM."""

from gateway.dicom.pdu import NotDicomError
from gateway.dicom.policy import Observer, Requestor
from gateway.dicom.tls import TlsError
from gateway.dicom.wire import IdleError, TimedOutError
from gateway.domain.dimse_status import Status
from gateway.domain.refusal import Reason
from gateway.receive.refusals import Refusals

# The words of OpenSSL (ssl.SSLError.reason) for what a peer did.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG"})
_NO_CERTIFICATE = frozenset({"PEER_DID_NOT_RETURN_A_CERTIFICATE"})
_BAD_CERTIFICATE = frozenset({"CERTIFICATE_VERIFY_FAILED"})
_CLOSED = frozenset({"", "UNEXPECTED_EOF_WHILE_READING"})


def observer(refusals: Refusals) -> Observer:
    """Return what the acceptor calls; it only counts."""

    def broken(requestor: Requestor | None, remote_address: str, error: Exception) -> None:
        refusals.note(
            reason_of(error, is_admitted=requestor is not None),
            remote_address=remote_address,
            calling_ae_title="" if requestor is None else requestor.calling_ae_title,
            called_ae_title="" if requestor is None else requestor.called_ae_title,
            detail=str(error),
        )

    def not_stored(requestor: Requestor, sop_instance_uid: str, status: int, comment: str) -> None:
        wrong_context = status == Status.SOP_CLASS_NOT_SUPPORTED
        refusals.note(
            Reason.WRONG_CONTEXT if wrong_context else Reason.CANNOT_UNDERSTAND,
            remote_address=requestor.remote_address,
            calling_ae_title=requestor.calling_ae_title,
            called_ae_title=requestor.called_ae_title,
            detail=comment,
            status=int(status),
            uid=sop_instance_uid,
            study_instance_uid="",
        )

    return Observer(broken, not_stored)


def reason_of(error: Exception, *, is_admitted: bool) -> Reason:
    """Return the reason for which a connection ended."""
    if isinstance(error, TlsError):
        return _reason_of_handshake(error.reason)
    if isinstance(error, IdleError):
        return Reason.IDLE
    if isinstance(error, TimedOutError):
        return Reason.SILENT_IN_A_MESSAGE if is_admitted else Reason.NO_ASSOCIATION_REQUEST
    return Reason.NOT_DICOM if isinstance(error, NotDicomError) else Reason.MALFORMED


def _reason_of_handshake(word: str) -> Reason:
    for words, reason in (
        (_NO_TLS, Reason.PEER_SPEAKS_NO_TLS),
        (_NO_CERTIFICATE, Reason.NO_CLIENT_CERTIFICATE),
        (_BAD_CERTIFICATE, Reason.CLIENT_CERTIFICATE_REFUSED),
        (_CLOSED, Reason.CLOSED_IN_HANDSHAKE),
    ):
        if word in words:
            return reason
    return Reason.HANDSHAKE_FAILED
