"""The log lines of one C-STORE, with the fields that all of them share (G8: UIDs and AE titles only)."""

import time

from gateway import log
from gateway.correlate import Correlated
from gateway.database.tables.instances import ReceptionVerdict, RegisteredInstance
from gateway.dicom.policy import Requestor
from gateway.domain.dimse_status import Status
from gateway.domain.identifiers import printable
from gateway.domain.instance import Kind
from gateway.errors import GatewayError
from gateway.log import Stage
from gateway.receive.caller_origin import Caller

NOT_FORWARDED = frozenset({ReceptionVerdict.NOT_FORWARDED, ReceptionVerdict.OWED_IN_PART})
CAME_BACK = "has the SOP Instance UID of a stored result, but other bytes: goes to the PACS and to no worker"


class CStoreLog:
    """The log of one C-STORE. `study_instance_uid` is None until the header of the data set has been read."""

    def __init__(self, requestor: Requestor, sop_instance_uid: str) -> None:
        self._requestor = requestor
        self._sop_instance_uid = printable(sop_instance_uid)
        self._began = time.monotonic()
        self.study_instance_uid: str | None = None

    def durable(self, size: int) -> None:
        """Log that the file is flushed, under its final name."""
        self._write(Stage.STORE, "durable", size=size)

    def references_cut_off(self, defect: str) -> None:
        """Log that the references of a result could be read in part only."""
        self._write(Stage.AI_RESULT, "references_cut_off", level="warning", error=defect)

    def success(self, caller: Caller, registered: RegisteredInstance, correlated: Correlated | None) -> None:
        """Log the correlation of a result, what the database did with the instance, and Success."""
        if correlated is not None:
            self._write(
                Stage.AI_RESULT,
                correlated.outcome,
                instance_id=registered.instance_id,
                count=len(correlated.match.source_instance_ids),
                level="warning" if caller.by_address else "info",
                detail=_why_a_result(caller) if caller.by_address else None,
            )
        elif registered.kind is Kind.RESULT and registered.verdict is ReceptionVerdict.CONFLICT:
            self._write(Stage.AI_RESULT, "came_back", instance_id=registered.instance_id, detail=CAME_BACK)
        self._write(
            Stage.QUEUE,
            registered.verdict.value,
            instance_id=registered.instance_id,
            detail=self._how_to_forward() if registered.verdict in NOT_FORWARDED else None,
        )
        self._write(Stage.RECEIVE, "success", status=Status.SUCCESS)

    def refused(self, status: Status, error: Exception) -> None:
        """Log the error that led to a status. The message is logged only if it is a `GatewayError`."""
        self._write(
            Stage.RECEIVE,
            "refused",
            level="error",
            status=status,
            error=str(error) if isinstance(error, GatewayError) else type(error).__name__,
            detail=log.frames(error) if status is Status.PROCESSING_FAILURE else None,
        )

    def abandoned(self, reason: str) -> None:
        """Log that the association ended before the data set was complete."""
        self._write(Stage.RECEIVE, "abandoned", level="warning", error=reason)

    def _how_to_forward(self) -> str:
        return (
            "delivered before, so it is not sent again; where the PACS lacks it: "
            f"mini-pacs deliveries resend --route pacs --study {self.study_instance_uid}"
        )

    def _write(
        self,
        stage: Stage,
        outcome: str,
        *,
        level: log.Level = "info",
        error: str | None = None,
        detail: str | None = None,
        status: int | None = None,
        size: int | None = None,
        count: int | None = None,
        instance_id: int | None = None,
    ) -> None:
        log.write(
            stage,
            outcome,
            level=level,
            study_instance_uid=self.study_instance_uid,
            sop_instance_uid=self._sop_instance_uid,
            calling_ae_title=self._requestor.calling_ae_title,
            called_ae_title=self._requestor.called_ae_title,
            remote_address=self._requestor.remote_address,
            duration_ms=(time.monotonic() - self._began) * 1000,
            error=error,
            detail=detail,
            status=status,
            size=size,
            count=count,
            instance_id=instance_id,
        )


def _why_a_result(caller: Caller) -> str:
    return (
        f"came from the address of {', '.join(caller.workers)} under another AE title: received as a "
        "result, so that it goes to no worker; name the title in calling_ae_titles of that worker"
    )
