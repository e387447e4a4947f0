"""Receive one C-STORE: stream the data set to the spool, read its header, write its envelope, flush, answer.

Guarantee: Success is answered only after the file, with all that its registration needs, is durable (G1). The
order is

    write               each fragment of a large data set goes to a `.part` file of the spool
    Partial.seal        the envelope is written into the file; a small data set is written with it
    Partial.name        the file gets its final name
    Partial.flush       file, envelope, name and folder survive a power cut from here on
    Registrar.submit    the rows are written from here on, by another thread
    Success             the edge is responsible from here on

The answer does not need PostgreSQL. All values that registration needs are validated before it.

If the process dies
    before the flush    the sender has no answer and still owns the instance
    after the flush     the `.part` link remains: the next process registers the instance. A sender without an
                        answer sends again, and gets Success for a repeat (G4)
"""

import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from gateway import log
from gateway.dicom.dataset.encoding import is_deflated
from gateway.dicom.dataset.header import Header, facts_of, read_header
from gateway.dicom.dataset.part10 import preamble_and_file_meta
from gateway.dicom.policy import AbortAssociation, Requestor, StoreRequest
from gateway.domain.dimse_status import Status
from gateway.domain.identifiers import printable
from gateway.domain.instance import Kind, file_names
from gateway.domain.matching import is_result
from gateway.domain.routing import priority_for
from gateway.errors import GatewayError, NotRegistrableError, SpoolError, SpoolFullError
from gateway.log import Stage
from gateway.receive.c_store_log import CStoreLog
from gateway.receive.checks import check_agreement, check_command, check_data_set_uids
from gateway.receive.context import ReceiverContext
from gateway.receive.statuses import InjectedRefusalError, status_of
from gateway.register.unregistered import Unregistered
from gateway.rules.ruleset import RulesDecision
from gateway.spool.envelope import ENVELOPE_BYTES, Envelope
from gateway.spool.flush import remove_uncommitted
from gateway.spool.partial import Partial

HIGH = 1  # C-STORE priority, PS3.7 §9.3.1.1, Table 9.3-1

MAX_COMMENT = 64  # VR LO, PS3.7 §C.4.3

HELD_BYTES = 64 * 1024
"""A data set up to this size is held in memory until it is complete, and written with its header and envelope
by one call. A larger one is written while it arrives."""

LARGE_BYTES = 4 << 20
"""While a larger data set is received, the free space is compared with `edge.disk_reserve_mb`."""


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
        self._header = b""
        self._held: bytearray | None = bytearray()
        self._partial: Partial | None = None
        self._failure: Exception | None = None
        self._is_stored = False
        self._status: int = Status.SUCCESS
        self._began = time.monotonic()
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001  the boundary: becomes a status in `finish`
            self._fail(error)

    def write(self, *fragments: memoryview) -> None:
        """Append the next bytes of the data set to the `.part` file; after a failure ignore them."""
        if self._receiver.faults.drops_association(Stage.RECEIVE):
            raise AbortAssociation("fault drop_association")
        if self._failure is not None or self._partial is None:
            return
        size = self._size + sum(map(len, fragments))
        try:
            if self._size > LARGE_BYTES:
                self._receiver.spool.check_reserve()
            if self._held is None:
                self._partial.write(*fragments)
            elif size <= HELD_BYTES:
                for fragment in fragments:
                    self._held += fragment
            else:
                self._write_held(*fragments)
        except SpoolError as error:
            self._fail(error)
            return
        for fragment in fragments:
            self._digest.update(fragment)
        self._size = size

    def finish(self) -> tuple[int, str]:
        """Make the instance durable and return Success, or the status and comment of the error."""
        try:
            self._store()
        except Exception as error:  # noqa: BLE001  the boundary: every error becomes a status here
            status, comment, reason = status_of(error)
            self._status = status
            self._log.refused(status, error)
            self._receiver.refusals.note(
                reason,
                remote_address=self._requestor.remote_address,
                calling_ae_title=self._requestor.calling_ae_title,
                called_ae_title=self._requestor.called_ae_title,
                detail=str(error) if isinstance(error, GatewayError) else type(error).__name__,
                status=status,
                uid=self._request.sop_instance_uid,
                study_instance_uid=self._log.study_instance_uid or "",
            )
            return status, printable(comment, MAX_COMMENT - 1)
        return Status.SUCCESS, ""

    def answered(self) -> None:
        """Close the file, count and log, after the sender got its answer."""
        self._receiver.answers.note(self._status, time.monotonic() - self._began)
        if self._partial is None:
            return
        if self._is_stored:
            self._partial.close()
            with log.together():
                self._log.durable(self._size)
                self._log.success()
        else:
            self._partial.discard()

    def abandon(self, reason: str) -> None:
        """End the reception without an answer: the association ended.

        An incomplete data set is deleted; a durable file is registered all the same.
        """
        if self._partial is not None and self._is_stored:
            self._partial.close()
        elif self._partial is not None:
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
        if reason := self._receiver.identity.why_refused() or self._receiver.registrar.why_refused():
            raise NotRegistrableError(reason)
        self._partial = self._receiver.spool.begin(self._receiver.registrar.unregistered_bytes())
        self._header = preamble_and_file_meta(
            request.sop_class_uid,
            request.sop_instance_uid,
            request.transfer_syntax_uid,
            source_ae_title=self._requestor.calling_ae_title,
            receiving_ae_title=self._requestor.called_ae_title,
            private_bytes=ENVELOPE_BYTES,
        )

    def _write_held(self, *fragments: memoryview) -> None:
        """Write the held bytes and `fragments`; later fragments are written while they arrive."""
        assert self._partial is not None, "no failure, so it was begun"
        held, self._held = self._held, None
        self._partial.write(self._header, held or b"", *fragments)

    def _fail(self, error: Exception) -> None:
        """Delete partial data immediately, so that an endless data set cannot fill the disk."""
        self._failure = error
        if self._partial is not None:
            self._partial.discard()
            self._partial = None

    # ---- header, envelope, name ------------------------------------------------------------------

    def _store(self) -> None:
        if self._failure is not None:
            raise self._failure
        assert self._partial is not None, "no failure, so it was begun"
        delay = self._receiver.faults.io_delay(Stage.STORE)
        if delay:
            time.sleep(delay)
        if self._held is not None and is_deflated(self._request.transfer_syntax_uid):
            self._write_held()  # it is inflated from the file
        envelope = self._envelope(self._read_header(self._partial))
        if self._held is None:
            self._partial.seal(envelope.pack(), len(self._header) - ENVELOPE_BYTES)
        else:
            self._header = self._header[:-ENVELOPE_BYTES] + envelope.pack()
            self._write_held()
        names = file_names(envelope.sop_instance_uid, self._digest.hexdigest())
        path = self._partial.name(envelope.study_instance_uid, names)
        try:
            self._partial.flush()
            # If a reset-db ran meanwhile, this reception has the older epoch. It would never be registered,
            # so do not acknowledge it.
            self._receiver.identity.require_epoch(envelope.epoch)
        except BaseException:
            # The file may be torn. Remove its name before its `.part` link, so that no process registers it.
            remove_uncommitted(Path(path))
            raise
        self._is_stored = True
        self._receiver.registrar.submit(Unregistered(envelope, path, self._partial.path))
        self._receiver.registrar.wait_if_behind()

    def _read_header(self, partial: Partial) -> Header:
        syntax = self._request.transfer_syntax_uid
        held = None if self._held is None else bytes(self._held)
        header = read_header(
            partial.descriptor,
            len(self._header),
            syntax,
            with_references=False,
            asked=self._receiver.rules.asked,
            held=held,
        )
        check_data_set_uids(header)
        self._log.study_instance_uid = header.study_instance_uid
        check_agreement(self._request, header)
        return header

    def _envelope(self, header: Header) -> Envelope:
        configuration = self._receiver.configuration
        description = configuration.edge.result_series_description
        result = is_result(self._caller.origin, header.series_description, result_description=description)
        kind = Kind.RESULT if result else Kind.ORIGINAL
        decision = self._decide(kind, header)
        return Envelope(
            reception_id=uuid4(),
            received_at=datetime.now(UTC),
            epoch=self._receiver.identity.epoch,
            calling_ae_title=self._requestor.calling_ae_title,
            called_ae_title=self._requestor.called_ae_title,
            remote_address=self._requestor.remote_address,
            priority=priority_for(kind, urgent=self._is_urgent(header)),
            kind=kind,
            origin=self._caller.origin,
            targets=decision.accepted,
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            study_instance_uid=header.study_instance_uid,
            series_instance_uid=header.series_instance_uid,
            transfer_syntax_uid=self._request.transfer_syntax_uid,
            data_set_size=self._size,
            sha256=self._digest.digest(),
            refused=decision.refused,
            undecided=decision.undecided,
            rules=self._receiver.rules.digest,
        )

    def _decide(self, kind: Kind, header: Header) -> RulesDecision:
        """Decide which targets get the instance. The envelope keeps it, so registration needs no rule."""
        rules = self._receiver.rules
        mode = self._receiver.configuration.forwarder.mode
        candidates = self._receiver.targets.of(kind, mode, sent_by=self._caller.archive)
        if not rules.has_rules:
            return RulesDecision(candidates)
        facts = facts_of(
            header,
            calling_ae_title=self._requestor.calling_ae_title,
            called_ae_title=self._requestor.called_ae_title,
            transfer_syntax_uid=self._request.transfer_syntax_uid,
        )
        decision = rules.decide(candidates, facts)
        for target in decision.undecided:
            self._log.undecided(target, rules.why_undecided(target, facts))
        return decision

    def _is_urgent(self, header: Header) -> bool:
        urgent = self._receiver.configuration.edge.urgent
        return (
            self._request.priority == HIGH
            or self._requestor.calling_ae_title in urgent.calling_aets
            or header.modality in urgent.modalities
        )
