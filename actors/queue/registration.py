"""Register a connection as a consumer: its id with a lock, its row, and the channels of its queues.

If the process dies
    after the lock, before the row   nothing remains
    after the row                    a reaper finds the row without a lock, and removes it
"""

import os
import secrets
import socket
from collections.abc import Sequence

from actors.queue.pooler import require_session_mode
from gateway.database.session import Session
from gateway.database.tables import consumers, messages
from gateway.errors import DatabaseUnavailableError

_ID_BITS = 63


def take_id(session: Session, dsn: str, *, is_session_mode: bool, deadline_seconds: float) -> int:
    """Choose a random id, and take its lock.

    `is_session_mode` means that an earlier connection has shown that there is no pooler in transaction mode.

    Raises:
        DatabaseUnavailableError: another process has chosen the same id.
        PoolerError: a pooler in transaction mode stands between this process and PostgreSQL.
    """
    messages.prepare_consumer(session)
    consumer = secrets.randbits(_ID_BITS)
    server_process = consumers.take_lock(session, consumer)
    if server_process is None:
        raise DatabaseUnavailableError("the random id of this consumer is taken; trying another")
    if not is_session_mode:
        require_session_mode(dsn, session, server_process, deadline_seconds=deadline_seconds)
    return consumer


def register(
    session: Session, consumer: int, *, queue_names: Sequence[str], threads: int, stopping: bool
) -> None:
    """Insert the row of a consumer that holds its lock, and listen for its queues."""
    # After the lock: the reaper removes a row whose lock is not held.
    consumers.register(
        session,
        consumer,
        host=socket.gethostname(),
        pid=os.getpid(),
        queue_names=sorted(queue_names),
        threads=threads,
        stopping=stopping,
    )
    # Before the first claim: a message that is committed between a claim and LISTEN would be missed.
    messages.listen(session, queue_names)
