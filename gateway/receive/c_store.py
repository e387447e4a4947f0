"""Receive one C-STORE: stream the data set to the spool, read its header, name the file, commit, answer.

Guarantee: Success is answered only after file and rows are durable (G1). The order is

    write               each fragment goes to a `.part` file of the spool
    Partial.name        the file gets its final name
    Partial.flush       file, name and folder survive a power cut from here on
    Committer.commit    instance, deliveries and messages survive a power cut from here on
    Success             the edge is responsible from here on
    answered            wake the actors, remove the `.part` name, write the log

A small file is flushed while PostgreSQL writes the rows, and COMMIT waits for the flush. Everything that the
sender need not wait for is done after the answer.

If the process dies
    before the commit   the sender has no answer and still owns the instance; reconcile removes a `.part`
                        file and moves a file without a row to orphaned/
    after the commit    the edge is responsible; the sender has no answer, sends again, and gets Success for
                        a repeat (G4)
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.correlate import Correlated
from gateway.database.tables.instances import ReceivedInstance, ReceptionVerdict, RegisteredInstance
from gateway.dicom.dataset.header import Header, read_header
from gateway.dicom.dataset.part10 import preamble_and_file_meta
from gateway.dicom.policy import AbortAssociation, Requestor, StoreRequest
from gateway.domain.dimse_status import Status
from gateway.domain.identifiers import printable
from gateway.domain.instance import Kind, file_names
from gateway.domain.matching import is_result
from gateway.domain.routing import priority_for, routes_for
from gateway.errors import OutcomeUnknownError, SpoolError, SpoolFullError
from gateway.log import Stage
from gateway.receive import repeat
from gateway.receive.c_store_log import CStoreLog
from gateway.receive.checks import check_agreement, check_command, check_data_set_uids
from gateway.receive.context import ReceiverContext
from gateway.receive.statuses import InjectedRefusalError, status_of
from gateway.spool.flush import remove_uncommitted
from gateway.spool.partial import Partial

HIGH = 1  # C-STORE priority, PS3.7 §9.3.1.1, Table 9.3-1

MAX_COMMENT = 64  # VR LO, PS3.7 §C.4.3

LARGE_BYTES = 4 << 20
"""A larger data set is flushed before its rows are written: its flush takes long, and locked rows would make
other commits wait. While it is received, the free space is compared with `edge.disk_reserve_mb`."""


@dataclass(frozen=True, slots=True)
class _Committed:
    """The outcome of one commit: the row, the correlation of a result, and the path of the file."""

    registered: RegisteredInstance
    correlated: Correlated | None
    path: Path


class CStoreHandler:
    """The reception of one data set; the `StoreHandler` of the acceptor.

    An error while fragments arrive is kept and answered in `finish`, because a sender reads the status only
    after it has sent the whole data set.
    """

    def __init__(self, receiver: ReceiverContext, requestor: Requestor, request: StoreRequest) -> None:
        self._receiver = receiver
        self._requestor = requestor
        self._request = request
        self._caller = receiver.origins.identify(requestor.calling_ae_title, requestor.remote_address)
        self._log = CStoreLog(requestor, request.sop_instance_uid)
        self._digest = hashlib.sha256()
        self._size = 0
        self._offset = 0
        self._partial: Partial | None = None
        self._failure: Exception | None = None
        self._committed: _Committed | None = None
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001  the boundary: becomes a status in `finish`
            self._fail(error)

    def write(self, fragment: memoryview) -> None:
        """Append the next bytes of the data set to the `.part` file; after a failure ignore them."""
        if self._receiver.faults.drops_association(Stage.RECEIVE):
            raise AbortAssociation("fault drop_association")
        if self._failure is not None or self._partial is None:
            return
        try:
            if self._size > LARGE_BYTES:
                self._receiver.spool.check_reserve()
            self._partial.write(fragment)
        except SpoolError as error:
            self._fail(error)
            return
        self._digest.update(fragment)
        self._size += len(fragment)

    def finish(self) -> tuple[int, str]:
        """Make the instance durable and return Success, or the status and comment of the error."""
        try:
            self._store()
        except Exception as error:  # noqa: BLE001  the boundary: every error becomes a status here
            status, comment = status_of(error)
            self._log.refused(status, error)
            return status, printable(comment, MAX_COMMENT - 1)
        return Status.SUCCESS, ""

    def answered(self) -> None:
        """Wake the actors, remove the `.part` name and write the log, after the sender got its answer."""
        committed = self._committed
        if committed is not None:
            self._wake(committed)
        if self._partial is not None:
            self._partial.discard()
        if committed is not None:
            self._log.success(self._caller, committed.registered, committed.correlated)

    def abandon(self, reason: str) -> None:
        """Delete what was received: the association ended before the data set was complete."""
        if self._partial is not None:
            self._partial.discard()
        self._log.abandoned(reason)

    # ---- stream ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        request = self._request
        check_command(request)
        faults = self._receiver.faults
        if faults.reject_all():
            raise InjectedRefusalError("fault reject_all")
        if faults.fails_at_random(Stage.RECEIVE):
            raise InjectedRefusalError("fault random_fail_rate")
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

    def _fail(self, error: Exception) -> None:
        """Delete partial data immediately, so that an endless data set cannot fill the disk."""
        self._failure = error
        if self._partial is not None:
            self._partial.discard()
            self._partial = None

    # ---- header, name, commit --------------------------------------------------------------------

    def _store(self) -> None:
        if self._failure is not None:
            raise self._failure
        assert self._partial is not None, "no failure, so it was begun"
        delay = self._receiver.faults.io_delay(Stage.STORE)
        if delay:
            time.sleep(delay)
        header = self._read_header(self._partial)
        names = file_names(self._request.sop_instance_uid, self._digest.hexdigest())
        committed = self._name_and_commit(self._partial, header, names)
        if committed.registered.verdict is ReceptionVerdict.NAME_TAKEN:
            # Another version of the instance has this name in its row; its file was moved out of incoming/.
            # Nothing was committed. Try again under the name with the digest.
            remove_uncommitted(committed.path)
            committed = self._name_and_commit(self._partial, header, names[1:])
        repeat.remove_or_use_file(
            self._receiver.spool,
            self._receiver.database,
            self._partial,
            committed.path,
            committed.registered,
            sop_instance_uid=self._request.sop_instance_uid,
            data_set_size=self._size,
            sha256=self._digest.hexdigest(),
        )
        self._committed = committed

    def _read_header(self, partial: Partial) -> Header:
        syntax = self._request.transfer_syntax_uid
        header = read_header(partial.descriptor, self._offset, syntax, with_references=False)
        check_data_set_uids(header)
        self._log.study_instance_uid = header.study_instance_uid
        check_agreement(self._request, header)
        if self._kind(header) is Kind.RESULT:
            # References come after the UIDs in a data set. They are read for a result only.
            header = read_header(partial.descriptor, self._offset, syntax, with_references=True)
            if header.defect:
                self._log.references_cut_off(header.defect)
        return header

    def _kind(self, header: Header) -> Kind:
        description = self._receiver.configuration.edge.result_series_description
        result = is_result(self._caller.origin, header.series_description, result_description=description)
        return Kind.RESULT if result else Kind.ORIGINAL

    def _name_and_commit(self, partial: Partial, header: Header, names: Sequence[str]) -> _Committed:
        def flush() -> None:
            partial.flush()
            self._log.durable(self._size)

        path = partial.name(header.study_instance_uid, names)
        try:
            if self._size > LARGE_BYTES:
                flush()
            registered, correlated = self._receiver.committer.commit(
                self._received(header, path.name),
                header,
                None if self._size > LARGE_BYTES else flush,
                workers=self._caller.workers,
            )
        except OutcomeUnknownError:
            # A row that names this file may have been committed, so the file stays. If there is no such row,
            # reconcile moves the file to orphaned/.
            raise
        except Exception:
            # Every other error means that nothing was committed (see `commit`), so no row names the file.
            remove_uncommitted(path)
            raise
        return _Committed(registered, correlated, path)

    def _received(self, header: Header, file_name: str) -> ReceivedInstance:
        configuration = self._receiver.configuration
        kind = self._kind(header)
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
            priority=priority_for(kind, urgent=self._is_urgent(header)),
            origin=self._caller.origin,
        )

    def _is_urgent(self, header: Header) -> bool:
        urgent = self._receiver.configuration.edge.urgent
        return (
            self._request.priority == HIGH
            or self._requestor.calling_ae_title in urgent.calling_aets
            or header.modality in urgent.modalities
        )

    # ---- after the answer ------------------------------------------------------------------------

    def _wake(self, committed: _Committed) -> None:
        # If a worker returned an original unchanged, new deliveries can go to the PACS only.
        kind = committed.registered.kind if committed.correlated is None else Kind.RESULT
        for route in routes_for(kind, self._receiver.configuration.forwarder.mode):
            self._receiver.wakeup.wake(route)
        if committed.correlated is not None:
            # This worker has one result less outstanding, so it may get its next instance.
            self._receiver.wakeup.wake("workers")
