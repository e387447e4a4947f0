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
from gateway.store import instances
from gateway.store.database import Database
from gateway.store.instances import Kept, Received, Verdict

TRIES = 3
"""PostgreSQL ends one of two transactions that wait for each other; the loser's repeat goes through."""


def commit(
    database: Database, received: Received, header: Header, *, window: timedelta
) -> tuple[Kept, Correlated | None]:
    """Keep `received` with all it owes; a result is correlated in the same transaction.

    With NAME_TAKEN nothing was committed.

    Raises:
        DatabaseError: see above.
    """
    for left in range(TRIES - 1, -1, -1):
        try:
            if received.kind is Kind.ORIGINAL:
                with database.statement() as session:
                    return instances.receive(session, received, window=window), None
            return _commit_result(database, received, header, window=window)
        except DatabaseRefusedError as error:
            if not error.is_collision or not left:
                raise
    raise AssertionError("unreachable")


def _commit_result(
    database: Database, received: Received, header: Header, *, window: timedelta
) -> tuple[Kept, Correlated | None]:
    with database.transaction() as session:
        kept = instances.receive(session, received, window=window)
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
