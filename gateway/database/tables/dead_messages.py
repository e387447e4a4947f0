"""Dead messages, which no consumer takes: operators see them, queue them again, or delete them.

    rejected -> queued              requeue_dead
    rejected -> deleted             discard; clear, if a later message did its work
    queued   -> deleted             discard, if no process consumes the queue

`gateway.database.tables.messages` describes how a message becomes dead.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import orjson

from gateway.database.queries import Query, load
from gateway.database.session import Session

_Q = load("dead_messages")


class Dead(NamedTuple):
    """A dead message, which no consumer takes, with the reason."""

    message_id: str
    queue_name: str
    actor_name: str
    args: tuple[object, ...]
    delivery_id: int | None
    since: datetime
    deaths: int
    failures: int
    reason: str | None


class _DeadRow(NamedTuple):
    """A dead message; `args` is still JSON."""

    message_id: str
    queue_name: str
    actor_name: str
    args: str | None
    delivery_id: int | None
    since: datetime
    deaths: int
    failures: int
    reason: str | None


class Doomed(NamedTuple):
    """What an operator discards: dead messages (None: all), or those of a queue that has no consumer."""

    message_ids: tuple[str, ...] | None = None
    queue_name: str | None = None


class Discarded(NamedTuple):
    """A message that was deleted; with `leaves_dead` its delivery stays dead."""

    message_id: str
    leaves_dead: bool


def dead(
    session: Session,
    limit: int = 100,
    after: tuple[datetime, str] | None = None,
    queue_name: str | None = None,
) -> list[Dead]:
    """Return the newest dead messages, of all queues or of one.

    Only return those before `after`, the time and id of one, if given.
    """
    since, message_id = after or (None, None)
    rows = session.rows(
        _DeadRow, _Q["dead"], limit=limit, since=since, message_id=message_id, queue_name=queue_name
    )
    return [Dead(**{**row._asdict(), "args": _arguments(row.args)}) for row in rows]


def _arguments(text: str | None) -> tuple[object, ...]:
    """Parse the arguments; return none if they cannot be written as JSON again (nested too deeply, say)."""
    if text is None:
        return ()
    try:
        arguments = orjson.loads(text)
        orjson.dumps(arguments)
    except (orjson.JSONDecodeError, TypeError):  # TypeError stands for orjson.JSONEncodeError, too
        return ()
    return tuple(arguments)


def count_up_to(session: Session, *, limit: int, queue_name: str | None = None) -> int:
    """Count the dead messages, of all queues or of one; stop at `limit`."""
    return int(session.value(_Q["count_up_to"], limit=limit, queue_name=queue_name))


def oldest_dead(session: Session, *, until: datetime, limit: int) -> list[str]:
    """Return the ids of messages that were dead at `until`, the oldest first."""
    return session.values(_Q["oldest_dead"], until=until, limit=limit)


def requeue_dead(session: Session, message_ids: Sequence[str] | None) -> list[str]:
    """Queue dead messages (None: all) again, with no deaths or failures; return the queue of each."""
    ids = None if message_ids is None else list(message_ids)
    return session.values(_Q["requeue_dead"], message_ids=ids)


def count_doomed(session: Session, doomed: Doomed) -> int:
    """Count the messages that `discard` would delete now."""
    query, parameters = _doomed("count", doomed)
    return int(session.value(query, **parameters))


def discard(session: Session, doomed: Doomed) -> list[Discarded]:
    """Delete these messages, for an operator."""
    query, parameters = _doomed("discard", doomed)
    return session.rows(Discarded, query, **parameters)


def clear(session: Session, queue_name: str, actor_names: Sequence[str]) -> int:
    """Delete the dead messages of actors whose work a later message did; return how many."""
    return session.run(_Q["clear"], queue_name=queue_name, actor_names=list(actor_names))


def _doomed(verb: str, doomed: Doomed) -> tuple[Query, dict[str, object]]:
    if doomed.queue_name is not None:
        return _Q[f"{verb}_unserved"], {"queue_name": doomed.queue_name}
    ids = None if doomed.message_ids is None else list(doomed.message_ids)
    return _Q[f"{verb}_dead"], {"message_ids": ids}
