"""The gateway's broker, with what Dramatiq's suite asks of it: `join`, `flush` and `dead_letters`."""

import time
from typing import NoReturn

from dramatiq import Message, QueueJoinTimeout, QueueNotFound
from dramatiq.middleware import Middleware, Prometheus, default_middleware

from actors.middleware.stale_claim import StaleClaim
from actors.queue.broker import EdgeBroker
from gateway.database.dsn import dsn_from_environment
from gateway.database.queries import Query

_UNSETTLED = Query(
    "unsettled",
    "SELECT count(*) FROM dramatiq.queue WHERE queue_name = %(name)s AND state IN ('queued', 'consumed')",
)
_DEAD = Query("dead", "SELECT message::text FROM dramatiq.queue WHERE state = 'rejected' ORDER BY mtime")
_FLUSH = Query("flush", "DELETE FROM dramatiq.queue WHERE queue_name = %(name)s")
_FLUSH_ALL = Query("flush_all", "DELETE FROM dramatiq.queue")


class SuiteBroker(EdgeBroker):
    """Made with Dramatiq's own middleware where none is given, save the one that opens a port."""

    def __init__(self, *, middleware: list[Middleware] | None = None, **_ignored: object) -> None:
        theirs = (
            [kind() for kind in default_middleware if kind is not Prometheus]
            if middleware is None
            else middleware
        )
        super().__init__(dsn_from_environment(), middleware=[StaleClaim(), *theirs])

    def join(self, queue_name: str, *_waits: int, timeout: int | None = None, **_ignored: object) -> None:
        """Return when no message of the queue waits or runs; `timeout` in milliseconds."""
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]
        deadline = None if timeout is None else time.monotonic() + timeout / 1000
        while self._count(queue_name):
            if deadline is not None and time.monotonic() > deadline:
                raise QueueJoinTimeout(queue_name)  # type: ignore[no-untyped-call]
            time.sleep(0.02)

    def flush(self, queue_name: str) -> None:
        """Delete the messages of a queue."""
        with self.database.statement() as session:
            session.run(_FLUSH, name=queue_name)

    def flush_all(self) -> None:
        """Delete all messages."""
        with self.database.statement() as session:
            session.run(_FLUSH_ALL)

    @property
    def dead_letters(self) -> list[Message[object]]:
        """Return the dead messages."""
        with self.database.statement() as session:
            return [Message.decode(row[0].encode()) for row in session.all(_DEAD)]

    @property
    def dead_letters_by_queue(self) -> dict[str, list[Message[object]]]:
        """Return them by the name of their queue."""
        found: dict[str, list[Message[object]]] = {}
        for message in self.dead_letters:
            found.setdefault(message.queue_name, []).append(message)
        return found

    def _count(self, queue_name: str) -> int:
        with self.database.statement() as session:
            row = session.one(_UNSETTLED, name=queue_name)
        assert row is not None
        return int(row[0])


def raise_connection_error(*_args: object, **_keywords: object) -> NoReturn:
    """Stand for what only RabbitMQ's client offers; the tests that use it are not run."""
    raise ConnectionError("there is no RabbitMQ here")
