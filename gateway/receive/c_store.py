"""One C-STORE: the data set streams into the spool, then one transaction, then the status.

The order is G1: name the file (`Partial.name`), flush it and its directory (`Partial.flush`) while PostgreSQL
writes the rows, commit them (`commit`), and only then Success; what need not keep the sender waiting comes
after that. This is the only place where an error
becomes a DIMSE status (`STATUS_OF`, design.md §6).

If the process dies
    before the commit   the peer has no answer and owns the instance; reconcile clears the spool of a
                        part, or of a file without a row
    after the commit    the gateway is responsible; the peer has no answer and will send again, which is
                        answered as the repeat that it is (G4)
"""

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway import log
from gateway.config import Configuration
from gateway.correlate import Correlated
from gateway.database.pool import Database
from gateway.database.tables import instances
from gateway.database.tables.instances import ReceivedInstance, ReceptionVerdict, RegisteredInstance
from gateway.database.wakeup import Wakeup
from gateway.dicom.dataset.header import Header, read_header
from gateway.dicom.dataset.part10 import preamble_and_file_meta
from gateway.dicom.policy import AbortAssociation, Requestor, StoreRequest
from gateway.domain.dimse_status import Status
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_uid, printable
from gateway.domain.instance import Kind, file_names
from gateway.domain.matching import is_result
from gateway.domain.routing import priority_for, routes_for
from gateway.errors import (
    ContradictionError,
    DatabaseUnavailableError,
    DataSetError,
    GatewayError,
    OutcomeUnknownError,
    SpoolError,
    SpoolFullError,
)
from gateway.faults import Faults
from gateway.log import Stage
from gateway.receive.commit import Committer
from gateway.receive.origin import Origins
from gateway.spool.flush import remove_uncommitted
from gateway.spool.part10_file import holds
from gateway.spool.partial import Partial
from gateway.spool.places import ORPHANED
from gateway.spool.spool import Spool

HIGH = 1  # C-STORE priority, PS3.7 §9.3.1.1, Table 9.3-1

MAX_COMMENT = 64  # VR LO, PS3.7 §C.4.3

LARGE_BYTES = 4 << 20
"""What is larger is flushed before its rows are written: it takes the disk so long that their locks, and
those who wait to commit, had better not wait for it. It is also held to the disk's reserve while it grows;
what is smaller, and began above the reserve, may end."""


_NOT_FORWARDED = {ReceptionVerdict.NOT_FORWARDED, ReceptionVerdict.OWED_IN_PART}
CAME_BACK = "has the SOP Instance UID of a kept result, and other bytes: goes to the PACS, and to no worker"


class RefusedError(GatewayError):
    """An injected fault refuses this instance."""


STATUS_OF: tuple[tuple[type[Exception], Status, str], ...] = (
    # PS3.4 §B.2.3, Table B.2-1; the first class that fits decides
    (RefusedError, Status.OUT_OF_RESOURCES, ""),
    (SpoolFullError, Status.OUT_OF_RESOURCES, "the disk is full"),
    (SpoolError, Status.OUT_OF_RESOURCES, "the disk does not take it"),
    (DatabaseUnavailableError, Status.OUT_OF_RESOURCES, "the database is away"),
    (ContradictionError, Status.DATA_SET_DOES_NOT_MATCH, ""),
    (DataSetError, Status.CANNOT_UNDERSTAND, ""),
)


def _status_of(error: Exception) -> tuple[Status, str]:
    for known, status, comment in STATUS_OF:
        if isinstance(error, known):
            return status, comment or str(error)
    return Status.PROCESSING_FAILURE, "unforeseen error, see the edge's log"


@dataclass(frozen=True, slots=True)
class ReceiverContext:
    """What one receiver process works with."""

    configuration: Configuration
    spool: Spool
    database: Database
    committer: Committer
    wakeup: Wakeup
    faults: Faults
    origins: Origins


class CStoreHandler:
    """One data set on its way from the wire to a committed row; the SCP's `Reception`.

    An error while fragments arrive is kept and answered at the end: the peer has to send the data set
    whole before it reads a status.
    """

    def __init__(self, receiver: ReceiverContext, requestor: Requestor, request: StoreRequest) -> None:
        self._receiver = receiver
        self._requestor = requestor
        self._request = request
        self._caller = receiver.origins.of(requestor.calling_ae_title, requestor.remote_address)
        self._began = time.monotonic()
        self._digest = hashlib.sha256()
        self._size = 0
        self._offset = 0
        self._partial: Partial | None = None
        self._failure: Exception | None = None
        self._committed: tuple[RegisteredInstance, Correlated | None] | None = None
        self._study_instance_uid: str | None = None
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001  the boundary: becomes a status in `finish`
            self._give_up(error)

    def _begin(self) -> None:
        request = self._request
        for tag, uid in (("(0000,1000)", request.sop_instance_uid), ("(0000,0002)", request.sop_class_uid)):
            if not is_uid(uid):
                raise DataSetError(f"{tag} is no UID: other than digits and dots, or too long")
        faults = self._receiver.faults
        if faults.reject_all():
            raise RefusedError("fault reject_all")
        if faults.fails_at_random(Stage.RECEIVE):
            raise RefusedError("fault random_fail_rate")
        if faults.disk_full():
            raise SpoolFullError("write: No space left on device (fault disk_full)")
        self._partial = self._receiver.spool.begin()
        header = preamble_and_file_meta(
            request.sop_class_uid,
            request.sop_instance_uid,
            request.transfer_syntax_uid,
            source_ae_title=self._requestor.calling_ae_title,
        )
        self._offset = len(header)
        self._partial.write(header)

    def write(self, fragment: memoryview) -> None:
        """Append to the spool; after a failure the rest is read and thrown away."""
        if self._receiver.faults.drops_association(Stage.RECEIVE):
            raise AbortAssociation("fault drop_association")
        if self._failure is not None or self._partial is None:
            return
        try:
            if self._size > LARGE_BYTES:
                self._receiver.spool.check_reserve()
            self._partial.write(fragment)
        except SpoolError as error:
            self._give_up(error)
            return
        self._digest.update(fragment)
        self._size += len(fragment)

    def _give_up(self, error: Exception) -> None:
        """What was written goes at once: a data set without an end must not hold the disk that it filled."""
        self._failure = error
        if self._partial is not None:
            self._partial.discard()
            self._partial = None

    def finish(self) -> tuple[int, str]:
        """The instance is kept and owed, or the status says why not."""
        try:
            self._keep_and_commit()
        except Exception as error:  # noqa: BLE001  the boundary: every error becomes a status here
            return self._refuse(error)
        return Status.SUCCESS, ""

    def answered(self) -> None:
        """The actors are woken, the `.part` name is gone, the log says so: while the sender goes on."""
        if self._committed is not None:
            self._wake(*self._committed)
        if self._partial is not None:
            self._partial.discard()
        if self._committed is not None:
            self._tell(*self._committed)

    def abandon(self, reason: str) -> None:
        """The association ended before the data set did: nothing is kept."""
        if self._partial is not None:
            self._partial.discard()
        self._log(Stage.RECEIVE, "abandoned", level="warning", error=reason)

    # ---- keep, commit ----------------------------------------------------------------------------

    def _keep_and_commit(self) -> None:
        if self._failure is not None:
            raise self._failure
        assert self._partial is not None, "no failure, so it was begun"
        delay = self._receiver.faults.io_delay(Stage.STORE)
        if delay:
            time.sleep(delay)
        header = self._read_header(self._partial)
        names = file_names(self._request.sop_instance_uid, self._digest.hexdigest())
        kept, correlated, path = self._name_and_commit(self._partial, header, names)
        if kept.verdict is ReceptionVerdict.NAME_TAKEN:
            # Another version with that name was moved on from incoming/: take the name with the digest.
            remove_uncommitted(path)
            kept, correlated, path = self._name_and_commit(self._partial, header, names[1:])
        self._drop_superfluous(kept, path)
        self._committed = kept, correlated

    def _read_header(self, partial: Partial) -> Header:
        request = self._request
        syntax = request.transfer_syntax_uid
        header = read_header(partial.descriptor, self._offset, syntax, with_references=False)
        for tag, uid in (
            ("(0020,000D)", header.study_instance_uid),
            ("(0020,000E)", header.series_instance_uid),
        ):
            if not is_uid(uid, MAX_DATA_SET_UID_LENGTH):
                raise DataSetError(f"{tag} is no UID: other than digits and dots, or too long")
        self._study_instance_uid = header.study_instance_uid
        if header.sop_instance_uid != request.sop_instance_uid:
            raise ContradictionError("SOP Instance UID differs from the command's")
        if header.sop_class_uid != request.sop_class_uid:
            raise ContradictionError("SOP Class UID differs from the command's")
        if self._kind(header) is Kind.RESULT:
            # references stand behind the UIDs: only a result is read that far
            header = read_header(partial.descriptor, self._offset, syntax, with_references=True)
            if header.defect:
                self._log(Stage.AI_RESULT, "references_cut_off", level="warning", error=header.defect)
        return header

    def _kind(self, header: Header) -> Kind:
        description = self._receiver.configuration.edge.result_series_description
        result = is_result(self._caller.origin, header.series_description, result_description=description)
        return Kind.RESULT if result else Kind.ORIGINAL

    def _name_and_commit(
        self, partial: Partial, header: Header, names: Sequence[str]
    ) -> tuple[RegisteredInstance, Correlated | None, Path]:
        def flush() -> None:
            partial.flush()
            self._log(Stage.STORE, "durable", size=self._size)

        path = partial.name(header.study_instance_uid, names)
        try:
            if self._size > LARGE_BYTES:
                flush()
            received = self._received(header, path.name)
            committed = self._receiver.committer.commit(
                received,
                header,
                None if self._size > LARGE_BYTES else flush,
                workers=self._caller.workers,
            )
        except OutcomeUnknownError:
            # The row may stand, and then this is its file. Reconcile moves it to orphaned/ if it does not.
            raise
        except Exception:
            # Proven by `commit`, whatever it is: nothing was committed, and nobody needs the file.
            remove_uncommitted(path)
            raise
        return *committed, path

    def _received(self, header: Header, file_name: str) -> ReceivedInstance:
        configuration = self._receiver.configuration
        edge = configuration.edge
        kind = self._kind(header)
        urgent = (
            self._request.priority == HIGH
            or self._requestor.calling_ae_title in edge.urgent.calling_aets
            or header.modality in edge.urgent.modalities
        )
        return ReceivedInstance(
            sop_instance_uid=header.sop_instance_uid,
            study_instance_uid=header.study_instance_uid,
            series_instance_uid=header.series_instance_uid,
            sop_class_uid=header.sop_class_uid,
            transfer_syntax_uid=self._request.transfer_syntax_uid,
            sha256=self._digest.digest(),
            data_set_size=self._size,
            calling_ae_title=self._requestor.calling_ae_title,
            called_ae_title=self._requestor.called_ae_title,
            remote_address=self._requestor.remote_address,
            kind=kind,
            file_name=file_name,
            routes=routes_for(kind, configuration.forwarder.mode),
            priority=priority_for(kind, urgent=urgent),
            origin=self._caller.origin,
        )

    def _drop_superfluous(self, kept: RegisteredInstance, path: Path) -> None:
        """A repeat's file goes, unless the kept one is lost or holds other bytes: then it takes its place.

        What is in orphaned/ does not count: purge may be about to delete it.
        """
        if kept.verdict in {ReceptionVerdict.STORED, ReceptionVerdict.CONFLICT}:
            return
        named = self._receiver.spool.find_all(kept.place, path.parent.name, kept.file_name)
        if any(self._is_kept_in(other) for other in named if other != path):
            remove_uncommitted(path)
            return
        names = file_names(self._request.sop_instance_uid, self._digest.hexdigest())
        if path.name == names[0] != kept.file_name:
            # The plain name is another version's, in another place; that of the digest is nobody else's.
            assert self._partial is not None, "it was named"
            plain, path = path, self._partial.keep(path.parent.name, names[1:])
            remove_uncommitted(plain)
        with self._receiver.database.statement() as session:
            instances.restore_file(session, kept.instance_id, path.name)

    def _is_kept_in(self, path: Path) -> bool:
        with suppress(SpoolError):  # one that cannot be read is none
            return path.parent.parent.name != ORPHANED and holds(path, self._size, self._digest.hexdigest())
        return False

    # ---- telling ---------------------------------------------------------------------------------

    def _wake(self, kept: RegisteredInstance, correlated: Correlated | None) -> None:
        # An original that came from a worker, too, may be owed to the PACS for that alone.
        kind = kept.kind if correlated is None else Kind.RESULT
        for route in routes_for(kind, self._receiver.configuration.forwarder.mode):
            self._receiver.wakeup.wake(route)
        if correlated is not None:
            self._receiver.wakeup.wake("workers")  # one worker owes less: there is room for the next

    def _tell(self, kept: RegisteredInstance, correlated: Correlated | None) -> None:
        if correlated is not None:
            self._log(
                Stage.AI_RESULT,
                correlated.outcome,
                instance_id=kept.instance_id,
                count=len(correlated.match.source_instance_ids),
                level="warning" if self._caller.by_address else "info",
                detail=self._why_a_result() if self._caller.by_address else None,
            )
        elif kept.kind is Kind.RESULT and kept.verdict is ReceptionVerdict.CONFLICT:
            self._log(Stage.AI_RESULT, "came_back", instance_id=kept.instance_id, detail=CAME_BACK)
        self._log(
            Stage.QUEUE,
            kept.verdict.value,
            instance_id=kept.instance_id,
            detail=self._how_to_forward() if kept.verdict in _NOT_FORWARDED else None,
        )
        self._log(Stage.RECEIVE, "success", status=Status.SUCCESS)

    def _why_a_result(self) -> str:
        return (
            f"came from the address of {', '.join(self._caller.workers)} under another AE title: taken for a "
            "result, so that it goes to no worker; name the title in calling_ae_titles of that worker"
        )

    def _how_to_forward(self) -> str:
        return (
            "delivered before, so it is not sent again; where the PACS lacks it: "
            f"mini-pacs deliveries resend --route pacs --study {self._study_instance_uid}"
        )

    def _refuse(self, error: Exception) -> tuple[int, str]:
        status, comment = _status_of(error)
        detail = None
        if status is Status.PROCESSING_FAILURE:
            detail = log.frames(error)
        sentence = str(error) if isinstance(error, GatewayError) else type(error).__name__
        self._log(Stage.RECEIVE, "refused", level="error", status=status, error=sentence, detail=detail)
        return status, printable(comment, MAX_COMMENT - 1)

    def _log(
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
            study_instance_uid=self._study_instance_uid,
            sop_instance_uid=printable(self._request.sop_instance_uid),
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
