"""The life of a consumer: its lock, its row, and what becomes of what it held when the lock is gone.

    consumed -> queued | rejected    reap: its process died, once or too often
    consumed -> consumed             adopt: its process lives, under a new id
    rejected -> queued               undo_deaths: the death that was counted proves to be none

A consumer is alive as long as PostgreSQL holds the advisory lock of its id. Each function is one statement.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.messages import EXCLUSIVE_DEATHS, POISON_DEATHS, Run

_Q = load("queue")


@dataclass(frozen=True, slots=True)
class Reaped:
    """A consumer that was found dead, and what became of the messages it held.

    One that was `stopping` was killed when its grace was over: no message counts its death.
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
    """The server process that now holds the lock of `consumer`; None if the id is somebody's."""
    lock = session.only(_Lock, _Q["lock"], consumer=consumer)
    return lock.server_process if lock.is_ours else None


def server_process(session: Session) -> int:
    """The process id of the server's end of this connection."""
    return int(session.value(_Q["backend"]))


def begin_on_server_process(session: Session) -> int:
    """The same, in a transaction that stays open, so that a pooler cannot lend it to others."""
    session.script("BEGIN")
    return server_process(session)


def serve(session: Session, consumer: int, queue_names: Sequence[str]) -> None:
    """The consumer's row names these queues."""
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
    """Mark the consumer as stopping: its end counts against none of its messages."""
    session.run(_Q["stop"], consumer=consumer)


def unregister(session: Session, consumer: int) -> None:
    """The consumer is gone from the table, unless it still holds messages: then the reaper frees them."""
    session.run(_Q["unregister"], consumer=consumer)


def adopt(session: Session, runs: Collection[Run], *, lost: Iterable[int], consumer: int) -> frozenset[Run]:
    """Give `consumer` those of the runs that one of `lost` still held: it is the same process.

    The deliveries claimed under them are claimed by `consumer`. What else they held counts no death.
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
    """Take back the death that was counted when one of `lost` seemed dead; for how many messages it was."""
    return session.run(
        _Q["undo_deaths"], message_ids=list(message_ids), lost=list(lost), alone_deaths=EXCLUSIVE_DEATHS
    )


def missing(session: Session) -> list[int]:
    """The consumers whose locks nobody holds now: dead, or cut off a moment ago."""
    return session.values(_Q["missing"])


def reap(session: Session, missed: Iterable[int]) -> list[Reaped]:
    """Those of `missed` whose locks are gone; what they held is claimable, or dead after POISON_DEATHS."""
    return session.rows(
        Reaped, _Q["reap"], missed=list(missed), alone_deaths=EXCLUSIVE_DEATHS, poison_deaths=POISON_DEATHS
    )
