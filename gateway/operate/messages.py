"""Run dead messages again, or delete them.

All dead messages are changed in slices, each a transaction with its record, so that no more rows are locked.

If the process dies
    after a slice   the slice is committed, and the rest is as it was
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from gateway import log
from gateway.database.pool import Database
from gateway.database.tables import dead_messages
from gateway.database.tables.activity import Operator
from gateway.database.tables.dead_messages import Discarded, Doomed
from gateway.database.tables.processes import now
from gateway.database.wakeup import wake_once
from gateway.log import Stage
from gateway.operate.record import Record, recorder

SLICE = 2000
"""Messages of one transaction, where all dead messages are meant."""
ALL = "all dead messages"
NAMED = 5
"""So many ids are recorded."""


def requeue(database: Database, message_ids: Sequence[str], operator: Operator) -> int:
    """Queue these dead messages again, with no deaths or failures; return how many were dead."""
    return _requeue(
        database, message_ids, operator, recorder(operator, "requeue", _named(message_ids), "queued again")
    )


def requeue_all(database: Database, operator: Operator) -> int:
    """Queue all messages again that are dead now; return how many."""
    return _each_slice(database, requeue_slice, operator, recorder(operator, "requeue", ALL, "queued again"))


def requeue_slice(database: Database, until: datetime, operator: Operator, record: Record) -> int:
    """Queue some messages again that were dead at `until`; return how many, 0 at the end."""
    return _in_slice(database, until, lambda ids: _requeue(database, ids, operator, record))


def discard(database: Database, doomed: Doomed, operator: Operator) -> list[Discarded]:
    """Delete these messages; return them. A delivery whose message is deleted stays dead."""
    target = (
        f"queue {doomed.queue_name}" if doomed.queue_name is not None else _named(doomed.message_ids or ())
    )
    return _discard(database, doomed, operator, recorder(operator, "discard", target, "deleted"))


def discard_all(database: Database, operator: Operator) -> list[Discarded]:
    """Delete all messages that are dead now; return them."""
    gone: list[Discarded] = []

    def one_slice(database: Database, until: datetime, operator: Operator, record: Record) -> int:
        def change(message_ids: Sequence[str]) -> int:
            found = _discard(database, Doomed(tuple(message_ids)), operator, record)
            gone.extend(found)
            return len(found)

        return _in_slice(database, until, change)

    _each_slice(database, one_slice, operator, recorder(operator, "discard", ALL, "deleted"))
    return gone


def discard_slice(database: Database, until: datetime, operator: Operator, record: Record) -> int:
    """Delete some messages that were dead at `until`; return how many, 0 at the end."""
    return _in_slice(
        database, until, lambda ids: len(_discard(database, Doomed(tuple(ids)), operator, record))
    )


def _each_slice(
    database: Database,
    one_slice: Callable[[Database, datetime, Operator, Record], int],
    operator: Operator,
    record: Record,
) -> int:
    with database.statement() as session:
        until = now(session)
    changed = 0
    while count := one_slice(database, until, operator, record):
        changed += count
    return changed


def _in_slice(database: Database, until: datetime, change: Callable[[Sequence[str]], int]) -> int:
    """Change the oldest dead messages; if another process had changed all of these, try the next ones."""
    while True:
        with database.statement() as session:
            message_ids = dead_messages.oldest_dead(session, until=until, limit=SLICE)
        if not message_ids:
            return 0
        if count := change(message_ids):
            return count


def _requeue(database: Database, message_ids: Sequence[str], operator: Operator, record: Record) -> int:
    with database.transaction() as session:
        queues = dead_messages.requeue_dead(session, message_ids)
        if queues:
            record(session, len(queues))
    if queues:
        wake_once(database.dsn, sorted(set(queues)))
        detail = f"by {operator.text}"
        log.write(Stage.QUEUE, "messages_requeued", level="warning", count=len(queues), detail=detail)
    return len(queues)


def _discard(database: Database, doomed: Doomed, operator: Operator, record: Record) -> list[Discarded]:
    with database.transaction() as session:
        gone = dead_messages.discard(session, doomed)
        if gone:
            record(session, len(gone))
    if gone:
        detail = f"by {operator.text}"
        log.write(Stage.QUEUE, "messages_discarded", level="warning", count=len(gone), detail=detail)
    return gone


def _named(message_ids: Sequence[str]) -> str:
    more = ", …" if len(message_ids) > NAMED else ""
    return f"messages {', '.join(message_ids[:NAMED])}{more}"
