"""Commit a received instance: the transaction that makes the edge responsible for it (G1).

One transaction writes the instance, its deliveries and their messages. The file is durable before COMMIT, and
Success is answered after it. The rows are written while the file is flushed; only COMMIT waits for the flush.
The error of a commit decides what happens to the file:

    error                                           committed?   the file
    SpoolError (the flush failed)                   no           is removed; it may be torn
    DatabaseRefusedError, DatabaseUnavailableError  no           is removed
    OutcomeUnknownError                             perhaps      stays; reconcile moves it if no row names it
    any other                                       no           is removed; raised before COMMIT was sent

An original is committed in a transaction if a `flush` is given. Without `flush` the statement commits by
itself, so any lost connection is OutcomeUnknownError.
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
"""PostgreSQL cancels one of two transactions in a deadlock; the cancelled one is tried again."""


class Committer:
    """Commits the instances of one receiver: originals in groups, each result with its correlation."""

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
        """Commit `received` with its deliveries; correlate a result in the same transaction.

        `workers` are the workers that a result may come from; if empty, its calling AE title is taken.
        `flush` makes the file durable and is called before COMMIT; None if the file is durable already. The
        verdict NAME_TAKEN means that nothing was committed.

        Raises:
            DatabaseError, SpoolError: see the table above.
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
                # The statement commits by itself, so PostgreSQL had committed before it sent this answer.
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
            registered = instances.receive(session, received, window=self._window)
            if registered.verdict is ReceptionVerdict.NAME_TAKEN:
                return registered, None
            if registered.verdict is ReceptionVerdict.EQUALS_SOURCE:
                return registered, correlate_equal(session, registered.instance_id, workers)
            result = Result(
                registered.instance_id,
                workers,
                received.sop_instance_uid,
                received.study_instance_uid,
                header.referenced_sop_instance_uids,
                header.referenced_series_instance_uids,
                header.referenced_study_instance_uids,
            )
            return registered, correlate(session, result)
