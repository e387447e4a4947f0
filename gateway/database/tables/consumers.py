"""The rows and locks of consumers, and what happens to their messages when a lock is gone.

    consumed -> queued | rejected    reap: the process is gone; rejected (dead) after too many deaths
    consumed -> consumed             adopt: the process lives and has a new id
    rejected -> queued               undo_deaths: a death was counted though the process lives

A consumer is alive as long as PostgreSQL holds the advisory lock of its id. Each function is one statement.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.messages import EXCLUSIVE_DEATHS, POISON_DEATHS, Run

_Q = load("queue")


class Reaped(NamedTuple):
    """A process that is gone, how many of its messages were freed, and how many of these are dead.

    A `stopping` process was killed at the end of its grace period: no message counts its death.
    """

    host: str
    pid: int
    freed: int
    dead_lettered: int
    stopping: bool


class _Lock(NamedTuple):
    is_ours: bool
    server_process: int


def take_lock(session: Session, consumer: int) -> int | None:
    """Take the lock of `consumer`; return the server process that holds it, or None if the id is taken."""
    lock = session.only(_Lock, _Q["lock"], consumer=consumer)
    return lock.server_process if lock.is_ours else None


def server_process(session: Session) -> int:
    """Return the process id of the server process of this connection."""
    return int(session.value(_Q["backend"]))


def begin_on_server_process(session: Session) -> int:
    """Open a transaction and return its server process; a pooler cannot lend it to others meanwhile."""
    session.script("BEGIN")
    return server_process(session)


def serve(session: Session, consumer: int, queue_names: Sequence[str]) -> None:
    """Write the names of the queues into the consumer's row."""
    session.run(_Q["serve"], consumer=consumer, queue_names=list(queue_names))


def register(
    session: Session,
    consumer: int,
    *,
    host: str,
    pid: int,
    queue_names: Sequence[str],
    threads: int,
    stopping: bool = False,
) -> None:
    """Insert the consumer's row; its lock must be held already."""
    session.run(
        _Q["register"],
        consumer=consumer,
        host=host,
        pid=pid,
        queue_names=list(queue_names),
        threads=threads,
        stopping=stopping,
    )


def stop(session: Session, consumer: int) -> None:
    """Mark the consumer as stopping: no message counts its end as a death."""
    session.run(_Q["stop"], consumer=consumer)


def unregister(session: Session, consumer: int) -> None:
    """Delete the consumer's row, unless it still holds messages: the reaper frees those."""
    session.run(_Q["unregister"], consumer=consumer)


def adopt(session: Session, runs: Collection[Run], *, lost: Iterable[int], consumer: int) -> frozenset[Run]:
    """Move those of `runs` that are held under an id in `lost` to `consumer`, the new id; return them.

    Their deliveries move with them. Other messages of the lost ids are freed later without counting a death.
    """
    adopted = session.all(
        _Q["adopt"],
        message_ids=[message_id for message_id, _ in runs],
        claimed_at=[claimed_at for _, claimed_at in runs],
        lost=list(lost),
        consumer=consumer,
    )
    return frozenset((message_id, claimed_at) for message_id, claimed_at in adopted)


def undo_deaths(session: Session, message_ids: Iterable[str], *, lost: Iterable[int]) -> int:
    """Undo deaths that were counted when one of `lost` seemed gone; return for how many messages."""
    return session.run(
        _Q["undo_deaths"], message_ids=list(message_ids), lost=list(lost), alone_deaths=EXCLUSIVE_DEATHS
    )


def without_lock(session: Session) -> list[int]:
    """Return the consumers whose locks are not held: they are gone, or lost their connection a moment ago."""
    return session.values(_Q["without_lock"])


def reap(session: Session, missed: Iterable[int]) -> list[Reaped]:
    """Free the messages of those of `missed` without a lock; make them dead after POISON_DEATHS."""
    return session.rows(
        Reaped, _Q["reap"], missed=list(missed), alone_deaths=EXCLUSIVE_DEATHS, poison_deaths=POISON_DEATHS
    )
