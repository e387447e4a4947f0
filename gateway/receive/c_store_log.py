"""The log lines of one C-STORE, with the fields that all of them share (G8: UIDs and AE titles only)."""

import time

from gateway import log
from gateway.dicom.policy import Requestor
from gateway.domain.dimse_status import Status
from gateway.domain.identifiers import printable
from gateway.domain.routing import Target
from gateway.errors import GatewayError
from gateway.log import Stage


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

    def success(self) -> None:
        """Log that Success was answered."""
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

    def undecided(self, target: Target, reason: str) -> None:
        """Log that the rule of a target could not be decided, and what follows; without values."""
        follows = "gets it all the same" if target.route.is_archive else "does not get it"
        self._write(
            Stage.RECEIVE,
            "undecided",
            level="warning",
            error=f"the rule of {target.name} cannot be decided, so it {follows}: {reason}; "
            f"mini-pacs rules explain {self._sop_instance_uid}",
        )

    def abandoned(self, reason: str) -> None:
        """Log that the association ended before the data set was complete."""
        self._write(Stage.RECEIVE, "abandoned", level="warning", error=reason)

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
        )
