"""Decide who may associate and what they may send: the `Policy` of the Storage SCP.

AE titles and address are checked before an association slot is taken, so a caller that is not allowed cannot
use up the limits (G7). Each rejection is logged with its reason and the key of config.yaml to change.

Called on the association's thread; holds no lock during a slow call.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

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
from gateway.domain.refusal import Reason
from gateway.errors import SpoolError
from gateway.log import Stage
from gateway.receive.allowed_callers import AllowedCallers
from gateway.receive.c_store import CStoreHandler
from gateway.receive.context import ReceiverContext
from gateway.receive.declined_contexts import by_reason, describe
from gateway.receive.limits import AssociationLimits
from gateway.receive.unassociated import UnassociatedConnections

MAX_HOLDERS = 5
"""How many peers are named that hold associations when a limit is reached."""


@dataclass(slots=True)
class _OpenAssociation:
    slot: int
    began: float = field(default_factory=monotonic)
    instances: int = 0


class _Refused(NamedTuple):
    answer: Rejection
    reason: Reason
    detail: str


class Admission:
    """The `Policy` of the acceptor in one receiver process."""

    def __init__(
        self,
        configuration: Configuration,
        receiver: ReceiverContext,
        limits: AssociationLimits,
        unassociated: UnassociatedConnections,
    ) -> None:
        self.change(configuration, receiver)
        self._limits = limits
        self._unassociated = unassociated
        self._open: dict[Requestor, _OpenAssociation] = {}

    def change(self, configuration: Configuration, receiver: ReceiverContext) -> None:
        """Decide by another configuration from now on; associations that are open stay."""
        edge = configuration.edge
        self._receiver = receiver
        self._edge = edge
        self._allowed = AllowedCallers(edge.allowed_callers)
        accepted = frozenset(edge.accepted_sop_classes) or storage_sop_classes()
        self.accepted_sop_classes = accepted | frozenset(edge.additional_sop_classes)
        listed = () if edge.accepts_as_archives else edge.accepted_transfer_syntaxes
        self.contexts = Contexts(listed, self.declined)

    def admit(self, requestor: Requestor) -> Rejection | None:
        """Accept the association (None), or return the rejection of PS3.8 §9.3.4, Table 9-21.

        It is permanent if the caller is not allowed, and transient if the disk is full or a limit is reached.
        """
        self._unassociated.leave()
        refused = self._decide(requestor)
        if refused is None:
            self._log(requestor, "associated")
            return None
        self._log(requestor, "rejected", level="warning", error=refused.answer.word, detail=refused.detail)
        self._note(requestor, refused.reason, refused.detail)
        return refused.answer

    def _decide(self, requestor: Requestor) -> _Refused | None:
        if requestor.called_ae_title != self._edge.ae_title:
            return _Refused(
                CALLED_AE_TITLE_NOT_RECOGNIZED, Reason.CALLED_AE_TITLE, f"this is {self._edge.ae_title}"
            )
        allowed = self._allowed  # it may be exchanged between these lines
        if not allowed.has_title(requestor.calling_ae_title):
            return _Refused(
                CALLING_AE_TITLE_NOT_RECOGNIZED,
                Reason.CALLING_AE_TITLE,
                "add it to edge.allowed_calling_aets to let it in",
            )
        wrong_address = allowed.why_address_refused(requestor.calling_ae_title, requestor.remote_address)
        if wrong_address is not None:
            return _Refused(CALLING_ADDRESS_NOT_ALLOWED, Reason.CALLING_ADDRESS, wrong_address)
        refused = self._why_nothing_can_be_kept()
        if refused is not None:
            return refused
        peer = f"{requestor.calling_ae_title}@{requestor.remote_address}"
        slot = self._limits.acquire(peer)
        if slot is None:
            return self._limit_reached(peer)
        self._open[requestor] = _OpenAssociation(slot)
        return None

    def _why_nothing_can_be_kept(self) -> _Refused | None:
        """Return why no instance could be received now; None if it could."""
        registrar = self._receiver.registrar
        try:
            self._receiver.spool.check_reserve(registrar.unregistered_bytes())
        except SpoolError as error:
            return _Refused(TEMPORARY_CONGESTION, Reason.DISK_RESERVE, str(error))
        for reason, text in (
            (Reason.UNKNOWN_SPOOL, self._receiver.identity.why_refused()),
            (Reason.NOT_REGISTRABLE, registrar.why_refused()),
        ):
            if text:
                return _Refused(TEMPORARY_CONGESTION, reason, text)
        return None

    def _limit_reached(self, peer: str) -> _Refused:
        """Return which limit is reached, with those who hold the associations."""
        holders = self._limits.holders()
        held = ", ".join(f"{holder} has {count}" for holder, count in holders[:MAX_HOLDERS])
        more = f", and {len(holders) - MAX_HOLDERS} more peers" if len(holders) > MAX_HOLDERS else ""
        if self._limits.is_reached_by(peer):
            key, limit = "max_associations_per_peer", self._edge.max_associations_per_peer
            reason = Reason.LIMIT_OF_PEER
        else:
            key, limit, reason = "max_associations", self._edge.max_associations, Reason.LIMIT_OF_ALL
        return _Refused(
            LOCAL_LIMIT_EXCEEDED, reason, f"edge.{key} ({limit}) is reached; open associations: {held}{more}"
        )

    def _note(
        self, requestor: Requestor, reason: Reason, detail: str | None = None, *, uid: str = ""
    ) -> None:
        self._receiver.refusals.note(
            reason,
            remote_address=requestor.remote_address,
            calling_ae_title=requestor.calling_ae_title,
            called_ae_title=requestor.called_ae_title,
            detail=detail,
            uid=uid,
        )

    def declined(self, requestor: Requestor, contexts: Sequence[tuple[Offer, Answer]]) -> None:
        """Log the presentation contexts of an admitted requestor that were not accepted."""
        self._log(
            requestor, "contexts_declined", level="warning", detail=describe(contexts), count=len(contexts)
        )
        for reason, of_reason in by_reason(contexts).items():
            self._note(requestor, reason, describe(of_reason), uid=of_reason[0][0].abstract_syntax_uid)

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
        if outcome == "rejected":
            self._receiver.refusals.note(Reason.PROTOCOL, remote_address=remote_address, detail=error)

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
