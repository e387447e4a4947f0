"""Queue dead messages again, or delete them."""

from collections.abc import Sequence

from gateway import log
from gateway.database.pool import Database
from gateway.database.tables import activity, dead_messages
from gateway.database.tables.activity import Operator
from gateway.database.tables.dead_messages import Discarded, Doomed
from gateway.database.wakeup import Wakeup
from gateway.log import Stage


def requeue(database: Database, message_ids: Sequence[str] | None, operator: Operator) -> list[str]:
    """Make dead messages due now; None means all of them. Return the queues of those that were dead."""
    with database.transaction() as session:
        queues = dead_messages.requeue_dead(session, message_ids)
        if queues:
            activity.record(
                session,
                operator,
                "requeue",
                _described(message_ids),
                count=len(queues),
                outcome=f"{len(queues):,} queued again",
            )
    if queues:
        detail = f"by {operator.text}"
        log.write(Stage.QUEUE, "messages_requeued", level="warning", count=len(queues), detail=detail)
        wakeup = Wakeup(database.dsn)
        for queue in sorted(set(queues)):
            wakeup.wake(queue)
        wakeup.close()
    return queues


def discard(database: Database, doomed: Doomed, operator: Operator) -> list[Discarded]:
    """Delete dead messages, or those of a queue without a consumer; return what was deleted."""
    with database.transaction() as session:
        gone = dead_messages.discard(session, doomed)
        if gone:
            target = f"queue {doomed.queue_name}" if doomed.queue_name else _described(doomed.message_ids)
            activity.record(
                session, operator, "discard", target, count=len(gone), outcome=f"{len(gone):,} deleted"
            )
    if gone:
        detail = f"by {operator.text}"
        log.write(Stage.QUEUE, "messages_discarded", level="warning", count=len(gone), detail=detail)
    return gone


def _described(message_ids: Sequence[str] | None) -> str:
    if message_ids is None:
        return "all dead messages"
    more = ", …" if len(message_ids) > 5 else ""  # noqa: PLR2004  enough to find them
    return f"messages {', '.join(message_ids[:5])}{more}"
