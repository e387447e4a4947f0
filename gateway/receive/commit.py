"""The transaction that makes the gateway responsible for an instance (G1).

The file is durable before the commit, Success is answered after it. Only the commit waits for the file: the
rows are written while the disk works. What an error here proves decides what becomes of the file:

    SpoolError                                      it may be torn, and nothing was committed: it must go
    DatabaseRefusedError, DatabaseUnavailableError  nothing was committed: the file is superfluous
    OutcomeUnknownError                             it may stand: the file stays, reconcile sorts it out
    any other                                       it came before COMMIT was sent: as a refusal
"""

from collections.abc import Sequence
from datetime import timedelta

from gateway.correlate import Correlated, Result, correlate, correlate_equal
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import instances
from gateway.database.tables.instances import ReceivedInstance, ReceptionVerdict, RegisteredInstance
from gateway.dicom.dataset.header import Header
from gateway.domain.instance import Kind
from gateway.errors import DatabaseRefusedError, GatewayError, OutcomeUnknownError
from gateway.receive.group_commit import Flush, GroupCommit

TRIES = 3
"""PostgreSQL ends one of two transactions that wait for each other; the loser's repeat goes through."""


class Committer:
    """The commits of one receiver: originals in groups, each result with its correlation."""

    def __init__(self, database: Database, *, window: timedelta) -> None:
        self._database = database
        self._window = window
        self._group = GroupCommit(self._commit_originals)

    def commit(
        self,
        received: ReceivedInstance,
        header: Header,
        flush: Flush | None = None,
        *,
        workers: Sequence[str] = (),
    ) -> tuple[RegisteredInstance, Correlated | None]:
        """Keep `received` with all it owes; a result is correlated in the same transaction.

        `workers` are those that a result may come from (none: its calling AE title). `flush` makes the file
        durable, before the commit; None where it is. With NAME_TAKEN nothing was committed.

        Raises:
            DatabaseError, SpoolError: see above.
        """
        for left in range(TRIES - 1, -1, -1):
            try:
                if received.kind is Kind.ORIGINAL:
                    return self._group.commit(received, flush), None
                return self._commit_result(received, header, flush, workers or (received.calling_ae_title,))
            except DatabaseRefusedError as error:
                if not error.is_collision or not left:
                    raise
        raise AssertionError("unreachable")

    def _commit_originals(
        self, batch: list[ReceivedInstance], flush: Flush | None
    ) -> list[RegisteredInstance]:
        if flush is None:
            try:
                with self._database.statement() as session:
                    return self._receive(session, batch)
            except GatewayError:
                raise
            except Exception as error:
                # The statement commits itself: an answer that cannot be read comes after it.
                raise OutcomeUnknownError(
                    f"cannot read PostgreSQL's answer: {type(error).__name__}"
                ) from error
        with self._database.transaction(meanwhile=flush) as session:
            return self._receive(session, batch)

    def _receive(self, session: Session, batch: list[ReceivedInstance]) -> list[RegisteredInstance]:
        if len(batch) == 1:
            return [instances.receive(session, batch[0], window=self._window)]
        return instances.receive_many(session, batch, window=self._window)

    def _commit_result(
        self, received: ReceivedInstance, header: Header, flush: Flush | None, workers: Sequence[str]
    ) -> tuple[RegisteredInstance, Correlated | None]:
        with self._database.transaction(meanwhile=flush) as session:
            kept = instances.receive(session, received, window=self._window)
            if kept.verdict is ReceptionVerdict.NAME_TAKEN:
                return kept, None
            if kept.verdict is ReceptionVerdict.EQUALS_SOURCE:
                return kept, correlate_equal(session, kept.instance_id, workers)
            result = Result(
                kept.instance_id,
                workers,
                received.sop_instance_uid,
                received.study_instance_uid,
                header.referenced_sop_instance_uids,
                header.referenced_series_instance_uids,
                header.referenced_study_instance_uids,
            )
            return kept, correlate(session, result)
