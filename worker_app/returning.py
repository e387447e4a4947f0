"""Derive results of received instances or series and send them to the edge, in several threads.

Each thread keeps its association while there is work. A result is sent until the edge accepts it, at most
TRIES times; a result that is sent twice is the same instance (see `result`). If the process dies, waiting
results are lost, and the edge sends their instances to another worker.
"""

import queue
import threading
from time import monotonic

from pydicom import Dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import AE
from pynetdicom.association import Association

from worker_app import log, result, series, source
from worker_app.settings import Output, ResultUnit, Settings
from worker_app.waiting import WaitingInstance, Work

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


_SOP_CLASSES = {
    Output.IMAGES: (SecondaryCaptureImageStorage,),
    Output.SEG: (SecondaryCaptureImageStorage, SegmentationStorage),
    Output.SR: (SecondaryCaptureImageStorage, ComprehensiveSRStorage),
}


class Returner:
    """Takes work from `waiting` and sends its results, until `stopping` is set."""

    def __init__(self, settings: Settings, waiting: queue.Queue[Work], stopping: threading.Event) -> None:
        self._settings = settings
        self._waiting = waiting
        self._stopping = stopping
        self._association: Association | None = None

    def run(self) -> None:
        """Send results until the process stops; log an instance that fails, and continue."""
        while not self._stopping.is_set():
            try:
                work = self._waiting.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self._release()
                continue
            # All instances have the same delay, so no other work is due before this one.
            if self._stopping.wait(max(0.0, work.due - monotonic())):
                return
            try:
                if self._settings.unit is ResultUnit.SERIES:
                    self._return_series(work)
                else:
                    self._return(work.instances[0])
            finally:
                for instance in work.instances:
                    instance.discard()

    def _return(self, received: WaitingInstance) -> None:
        begun = monotonic()
        with received.opened() as file:
            try:
                instance = source.read(file, received.transfer_syntax_uid)
                derived = result.derive(instance, self._settings.ae_title)
            except Exception as error:  # noqa: BLE001  the boundary of this thread: an invalid instance must not end it
                self._log_failure(received, error)
                return
        self._send(instance, derived, begun)

    def _return_series(self, work: Work) -> None:
        begun = monotonic()
        settings = self._settings
        for instance, derived in series.results(
            work.instances, settings.ae_title, settings.output, self._log_failure
        ):
            self._send(instance, derived, begun)
            if self._stopping.is_set():
                return

    def _log_failure(self, received: WaitingInstance, error: Exception) -> None:
        log.write(
            "derive",
            worker=self._settings.ae_title,
            outcome="failed",
            sop_instance_uid=received.sop_instance_uid,
            error=type(error).__name__ if not isinstance(error, source.UnreadableError) else str(error),
        )

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
            # The association has ended, or the SOP Class was not accepted: the next try opens a new one.
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
        for sop_class_uid in _SOP_CLASSES[self._settings.output]:
            entity.add_requested_context(sop_class_uid, ExplicitVRLittleEndian)
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
