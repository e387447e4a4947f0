"""The transaction that makes the gateway responsible for an instance (G1).

The file is durable before, Success is answered after. What an error here proves decides what becomes of
the file:

    DatabaseRefusedError, DatabaseUnavailableError  nothing was committed: the file is superfluous
    OutcomeUnknownError                             it may stand: the file stays, reconcile sorts it out
"""

from datetime import timedelta

from gateway.correlate import Correlated, Result, correlate
from gateway.dicom.header import Header
from gateway.domain.instance import Kind
from gateway.errors import DatabaseRefusedError
from gateway.receive.group import GroupCommit
from gateway.store import instances
from gateway.store.database import Database
from gateway.store.instances import Kept, Received, Verdict

TRIES = 3
"""PostgreSQL ends one of two transactions that wait for each other; the loser's repeat goes through."""


class Committer:
    """The commits of one receiver: originals in groups, each result with its correlation."""

    def __init__(self, database: Database, *, window: timedelta) -> None:
        self._database = database
        self._window = window
        self._group = GroupCommit(self._commit_originals)

    def commit(self, received: Received, header: Header) -> tuple[Kept, Correlated | None]:
        """Keep `received` with all it owes; a result is correlated in the same transaction.

        With NAME_TAKEN nothing was committed.

        Raises:
            DatabaseError: see above.
        """
        for left in range(TRIES - 1, -1, -1):
            try:
                if received.kind is Kind.ORIGINAL:
                    return self._group.commit(received), None
                return self._commit_result(received, header)
            except DatabaseRefusedError as error:
                if not error.is_collision or not left:
                    raise
        raise AssertionError("unreachable")

    def _commit_originals(self, batch: list[Received]) -> list[Kept]:
        with self._database.statement() as session:
            if len(batch) == 1:
                return [instances.receive(session, batch[0], window=self._window)]
            return instances.receive_many(session, batch, window=self._window)

    def _commit_result(self, received: Received, header: Header) -> tuple[Kept, Correlated | None]:
        with self._database.transaction() as session:
            kept = instances.receive(session, received, window=self._window)
            if kept.verdict is Verdict.NAME_TAKEN:
                return kept, None
            result = Result(
                kept.instance_id,
                received.calling_ae_title,
                received.study_instance_uid,
                header.referenced_sop_instance_uids,
                header.referenced_series_instance_uids,
            )
            return kept, correlate(session, result)
