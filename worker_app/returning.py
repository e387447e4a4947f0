"""Derive results of received instances and send them to the edge, in several threads.

Each thread keeps its association while there is work. A result is sent until the edge accepts it, at most
TRIES times; a result that is sent twice is the same instance (see `result`). If the process dies, waiting
results are lost, and the edge sends their instances to another worker.
"""

import queue
import threading
from dataclasses import dataclass
from time import monotonic
from typing import BinaryIO

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE
from pynetdicom.association import Association

from worker_app import log, result, source
from worker_app.settings import Settings

THREADS = 2
TRIES = 10
IDLE_SECONDS = 1.0
"""How long an association without work is kept; an idle one costs CPU, because pynetdicom polls."""
CONNECT_TIMEOUT_SECONDS = 5.0
FIRST_ANSWER_TIMEOUT_SECONDS = 4.0
"""Must exceed the usual response time of the edge. It is short because pynetdicom may miss a response, and
a repeat is harmless. It doubles with each try, up to LAST_ANSWER_TIMEOUT_SECONDS."""
LAST_ANSWER_TIMEOUT_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.5
LAST_PAUSE_SECONDS = 10.0

_WARNING = 0xB000
_CLASS_MASK = 0xF000


@dataclass(frozen=True, slots=True)
class WaitingInstance:
    """An accepted instance without a result. `file` is open and unlinked; `due` is in monotonic seconds."""

    file: BinaryIO
    transfer_syntax_uid: str
    sop_instance_uid: str
    due: float


class Returner:
    """Takes instances from `waiting` and sends their results, until `stopping` is set."""

    def __init__(
        self, settings: Settings, waiting: queue.Queue[WaitingInstance], stopping: threading.Event
    ) -> None:
        self._settings = settings
        self._waiting = waiting
        self._stopping = stopping
        self._association: Association | None = None

    def run(self) -> None:
        """Send results until the process stops; log an instance that fails, and continue."""
        while not self._stopping.is_set():
            try:
                received = self._waiting.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self._release()
                continue
            # All instances have the same delay, so no other instance is due before this one.
            if self._stopping.wait(max(0.0, received.due - monotonic())):
                return
            with received.file:
                self._return(received)

    def _return(self, received: WaitingInstance) -> None:
        begun = monotonic()
        try:
            instance = source.read(received.file, received.transfer_syntax_uid)
            derived = result.derive(instance, self._settings.ae_title)
        except Exception as error:  # noqa: BLE001  the boundary of this thread: an invalid instance must not end it
            log.write(
                "derive",
                worker=self._settings.ae_title,
                outcome="failed",
                sop_instance_uid=received.sop_instance_uid,
                error=type(error).__name__ if not isinstance(error, source.UnreadableError) else str(error),
            )
            return
        self._send(instance, derived, begun)

    def _send(self, instance: source.Source, derived: Dataset, begun: float) -> None:
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(1, TRIES + 1):
            status, error = self._store(derived, attempt)
            accepted = status is not None and (status == 0 or status & _CLASS_MASK == _WARNING)
            log.write(
                "result",
                worker=self._settings.ae_title,
                outcome="accepted" if accepted else "gave_up" if attempt == TRIES else "retry",
                study_instance_uid=instance.study_instance_uid,
                sop_instance_uid=instance.sop_instance_uid,
                result_sop_instance_uid=str(derived.SOPInstanceUID),
                status=status,
                attempt=attempt,
                duration_ms=(monotonic() - begun) * 1000,
                error=error,
            )
            if accepted or self._stopping.wait(pause):
                return
            pause = min(pause * 2, LAST_PAUSE_SECONDS)

    def _store(self, derived: Dataset, attempt: int) -> tuple[int | None, str | None]:
        """Return the edge's status, or None and the reason; in that case abort the association."""
        association = self._associated()
        if association is None:
            return None, "no association"
        association.dimse_timeout = min(
            FIRST_ANSWER_TIMEOUT_SECONDS * 2 ** (attempt - 1), LAST_ANSWER_TIMEOUT_SECONDS
        )
        try:
            answer = association.send_c_store(derived)
        except (RuntimeError, ValueError) as error:
            # The association has ended, or Secondary Capture was not accepted: the next try opens a new one.
            self._abort()
            return None, str(error)
        if "Status" not in answer:  # what pynetdicom returns for a timeout, an abort or an invalid response
            self._abort()
            return None, "no answer"
        return int(answer.Status), answer.get("ErrorComment")

    def _associated(self) -> Association | None:
        if self._association is not None and self._association.is_established:
            return self._association
        entity = AE(self._settings.ae_title)
        entity.connection_timeout = CONNECT_TIMEOUT_SECONDS
        entity.acse_timeout = CONNECT_TIMEOUT_SECONDS
        entity.add_requested_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
        association = entity.associate(
            self._settings.gateway_host,
            self._settings.gateway_port,
            ae_title=self._settings.gateway_ae_title,
        )
        self._association = association if association.is_established else None
        return self._association

    def _release(self) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()
        self._association = None

    def _abort(self) -> None:
        if self._association is not None and self._association.is_established:
            self._association.abort()
        self._association = None
