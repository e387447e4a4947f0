"""Decide who may associate and what they may send: the `Policy` of the Storage SCP.

AE titles and address are checked before an association slot is taken, so a caller that is not allowed cannot
use up the limits (G7). Each rejection is logged with its reason and the key of config.yaml to change.

Called on the association's thread; holds no lock during a slow call.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from gateway import log
from gateway.config import Configuration
from gateway.dicom.contexts import Answer, Offer, storage_sop_classes
from gateway.dicom.policy import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_ADDRESS_NOT_ALLOWED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    TEMPORARY_CONGESTION,
    Contexts,
    Rejection,
    Requestor,
    StoreRequest,
)
from gateway.errors import SpoolError
from gateway.log import Stage
from gateway.receive.allowed_callers import AllowedCallers
from gateway.receive.c_store import CStoreHandler
from gateway.receive.context import ReceiverContext
from gateway.receive.declined_contexts import describe
from gateway.receive.limits import AssociationLimits
from gateway.receive.unassociated import UnassociatedConnections


@dataclass(slots=True)
class _OpenAssociation:
    slot: int
    began: float = field(default_factory=monotonic)
    instances: int = 0


class Admission:
    """The `Policy` of the acceptor in one receiver process."""

    def __init__(
        self,
        configuration: Configuration,
        receiver: ReceiverContext,
        limits: AssociationLimits,
        unassociated: UnassociatedConnections,
    ) -> None:
        edge = configuration.edge
        self._edge = edge
        self._allowed = AllowedCallers(edge.allowed_callers)
        self._receiver = receiver
        self._limits = limits
        self._unassociated = unassociated
        self._open: dict[Requestor, _OpenAssociation] = {}
        accepted = frozenset(edge.accepted_sop_classes) or storage_sop_classes()
        self.accepted_sop_classes = accepted | frozenset(edge.additional_sop_classes)
        self.contexts = Contexts(edge.accepted_transfer_syntaxes, self.declined)

    def admit(self, requestor: Requestor) -> Rejection | None:
        """Accept the association (None), or return the rejection of PS3.8 §9.3.4, Table 9-21.

        It is permanent if the caller is not allowed, and transient if the disk is full or a limit is reached.
        """
        self._unassociated.leave()
        rejection, reason = self._decide(requestor)
        if rejection is None:
            self._log(requestor, "associated")
        else:
            self._log(requestor, "rejected", level="warning", error=rejection.word, detail=reason)
        return rejection

    def _decide(self, requestor: Requestor) -> tuple[Rejection | None, str | None]:
        if requestor.called_ae_title != self._edge.ae_title:
            return CALLED_AE_TITLE_NOT_RECOGNIZED, f"this is {self._edge.ae_title}"
        if not self._allowed.has_title(requestor.calling_ae_title):
            return CALLING_AE_TITLE_NOT_RECOGNIZED, "add it to edge.allowed_calling_aets to let it in"
        wrong_address = self._allowed.why_address_refused(
            requestor.calling_ae_title, requestor.remote_address
        )
        if wrong_address is not None:
            return CALLING_ADDRESS_NOT_ALLOWED, wrong_address
        reason = self._why_nothing_can_be_kept()
        if reason:
            return TEMPORARY_CONGESTION, reason
        slot = self._limits.acquire(f"{requestor.calling_ae_title}@{requestor.remote_address}")
        if slot is None:
            return LOCAL_LIMIT_EXCEEDED, "edge.max_associations or max_associations_per_peer is reached"
        self._open[requestor] = _OpenAssociation(slot)
        return None, None

    def _why_nothing_can_be_kept(self) -> str:
        """Return why no instance could be received now; empty if it could."""
        registrar = self._receiver.registrar
        try:
            self._receiver.spool.check_reserve(registrar.unregistered_bytes())
        except SpoolError as error:
            return str(error)
        return self._receiver.identity.why_refused() or registrar.why_refused()

    def declined(self, requestor: Requestor, contexts: Sequence[tuple[Offer, Answer]]) -> None:
        """Log the presentation contexts of an admitted requestor that were not accepted."""
        self._log(
            requestor, "contexts_declined", level="warning", detail=describe(contexts), count=len(contexts)
        )

    def store(self, requestor: Requestor, request: StoreRequest) -> CStoreHandler:
        """Begin the reception of one data set."""
        self._open[requestor].instances += 1
        return CStoreHandler(self._receiver, requestor, request)

    def ended(self, requestor: Requestor, outcome: str, error: str | None) -> None:
        """Free the slot of an association that ended, and log its outcome."""
        association = self._open.pop(requestor)
        self._limits.release(association.slot)
        self._log(
            requestor,
            outcome,
            level="info" if outcome in {"released", "stopped"} else "warning",
            error=error,
            count=association.instances,
            duration_ms=(monotonic() - association.began) * 1000,
        )

    def ended_unadmitted(self, remote_address: str, outcome: str, error: str) -> None:
        """Log a connection that ended before it became an association."""
        self._unassociated.leave()
        log.write(Stage.RECEIVE, outcome, level="warning", remote_address=remote_address, error=error)

    @staticmethod
    def _log(
        requestor: Requestor,
        outcome: str,
        *,
        level: log.Level = "info",
        error: str | None = None,
        detail: str | None = None,
        count: int | None = None,
        duration_ms: float | None = None,
    ) -> None:
        log.write(
            Stage.RECEIVE,
            outcome,
            level=level,
            calling_ae_title=requestor.calling_ae_title,
            called_ae_title=requestor.called_ae_title,
            remote_address=requestor.remote_address,
            error=error,
            detail=detail,
            count=count,
            duration_ms=duration_ms,
        )
