"""Who may associate, and what becomes of what they send.

Strangers get nowhere (G7): AE titles and address are checked before a limit is touched, so that nobody
outside of the allowlist can use up an association; a connection that never asks holds one of a bounded
number of waiting places, and the oldest of those gives way.

Called on the association's thread; holds no lock while it calls anything slow.
"""

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
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
from gateway.receive.c_store import CStoreHandler, ReceiverContext
from gateway.receive.callers import Callers
from gateway.receive.declined import sentence
from gateway.receive.limits import AssociationLimits

WAITING_PLACES = 128
"""Connections of one receiver that have not asked for an association yet."""


@dataclass(slots=True)
class _Open:
    slot: int
    began: float = field(default_factory=monotonic)
    stored: int = 0


class UnassociatedConnections:
    """The connections that have not asked yet; bounded, so that silent ones keep nobody out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: dict[int, socket.socket] = {}

    def enter(self, connection: socket.socket) -> None:
        """The calling thread serves `connection`; if all places are taken, the oldest one is hung up on."""
        handle = connection.dup()  # TLS takes the socket over, and the first object is then of no use
        with self._lock:
            self._sockets[threading.get_ident()] = handle
            oldest = next(iter(self._sockets)) if len(self._sockets) > WAITING_PLACES else None
            evicted = None if oldest is None else self._sockets.pop(oldest)
        if evicted is not None:
            with suppress(OSError):  # it may have gone by itself
                # wakes the thread that reads from it, which then closes it
                evicted.shutdown(socket.SHUT_RDWR)
            evicted.close()

    def leave(self) -> None:
        """The calling thread's connection has asked, or is over."""
        with self._lock:
            handle = self._sockets.pop(threading.get_ident(), None)
        if handle is not None:
            handle.close()


class Admission:
    """The `Policy` of the Storage SCP."""

    def __init__(
        self,
        configuration: Configuration,
        receiver: ReceiverContext,
        limits: AssociationLimits,
        waiting: UnassociatedConnections,
    ) -> None:
        edge = configuration.edge
        self._edge = edge
        self._callers = Callers(edge.allowed_callers)
        self._receiver = receiver
        self._limits = limits
        self._waiting = waiting
        self._open: dict[Requestor, _Open] = {}
        accepted = frozenset(edge.accepted_sop_classes) or storage_sop_classes()
        self.accepted_sop_classes = accepted | frozenset(edge.additional_sop_classes)
        self.contexts = Contexts(edge.accepted_transfer_syntaxes, self.declined)

    def admit(self, requestor: Requestor) -> Rejection | None:
        """PS3.8 §9.3.4, Table 9-21: permanent for strangers, transient where there is no room now."""
        self._waiting.leave()
        rejection, why = self._judge(requestor)
        if rejection is None:
            self._log(requestor, "associated")
        else:
            self._log(requestor, "rejected", level="warning", error=rejection.word, detail=why)
        return rejection

    def _judge(self, requestor: Requestor) -> tuple[Rejection | None, str | None]:
        if requestor.called_ae_title != self._edge.ae_title:
            return CALLED_AE_TITLE_NOT_RECOGNIZED, f"this is {self._edge.ae_title}"
        if not self._callers.knows(requestor.calling_ae_title):
            return CALLING_AE_TITLE_NOT_RECOGNIZED, "add it to edge.allowed_calling_aets to let it in"
        wrong_address = self._callers.refusal(requestor.calling_ae_title, requestor.remote_address)
        if wrong_address is not None:
            return CALLING_ADDRESS_NOT_ALLOWED, wrong_address
        try:
            self._receiver.spool.check_reserve()
        except SpoolError as error:
            return TEMPORARY_CONGESTION, str(error)
        slot = self._limits.acquire(f"{requestor.calling_ae_title}@{requestor.remote_address}")
        if slot is None:
            return LOCAL_LIMIT_EXCEEDED, "edge.max_associations or max_associations_per_peer is reached"
        self._open[requestor] = _Open(slot)
        return None, None

    def declined(self, requestor: Requestor, contexts: Sequence[tuple[Offer, Answer]]) -> None:
        """Log what an admitted requestor offered and may not send."""
        self._log(
            requestor, "contexts_declined", level="warning", detail=sentence(contexts), count=len(contexts)
        )

    def store(self, requestor: Requestor, request: StoreRequest) -> CStoreHandler:
        """The reception of one data set."""
        self._open[requestor].stored += 1
        return CStoreHandler(self._receiver, requestor, request)

    def ended(self, requestor: Requestor, outcome: str, error: str | None) -> None:
        """The association is over: its slot is free."""
        entry = self._open.pop(requestor)
        self._limits.release(entry.slot)
        self._log(
            requestor,
            outcome,
            level="info" if outcome in {"released", "stopped"} else "warning",
            error=error,
            count=entry.stored,
            duration_ms=(monotonic() - entry.began) * 1000,
        )

    def ended_unadmitted(self, remote_address: str, outcome: str, error: str) -> None:
        """A connection that never became an association."""
        self._waiting.leave()
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
