"""The messages, rows of dramatiq.queue: they are enqueued, claimed by consumers, run and finished.

    queued   -> consumed            claim, claim_exclusive (due, route has capacity, by priority and age)
    consumed -> deleted             finish
    consumed -> queued              retry (its actor raised), give_back (not started)
    consumed -> rejected            dead_letter (its actor raised too often, or it cannot be run)

A consumed message is claimed: it runs, or waits for a thread of its process. A rejected one is called dead:
see `gateway.database.tables.dead_messages`. `gateway.database.tables.consumers` describes what happens to the
messages of a process that died. `gateway.database.tables.queues` counts what waits and runs. Each
function is one statement, so it is done completely or not at all. A run of a message is identified by its id,
its consumer and the time of the claim (`mtime`). Every function that ends a run compares all three. So it
does not touch a message that was freed and claimed again, or enqueued again under its id, while the actor
ran.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import md5
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.deliveries import DeliveryClaim
from gateway.domain.contract import EXPIRE_RESULT
from gateway.domain.routing import route_of_queue

EXCLUSIVE_DEATHS = 2
"""After so many deaths of processes that ran it, a message must run alone in its process."""

POISON_DEATHS = 3
"""After so many deaths a message is dead. It ran alone in the last process, so it is the cause."""

DEFAULT_PRIORITY = 4

GATED_PRIORITIES = range(8)
"""Priorities of messages that wait for capacity on their route; see `queue_priority` in the schema."""

NO_FLOORS: tuple[datetime | None, ...] = (None,) * len(GATED_PRIORITIES)

MAX_CHANNEL_BYTES = 63
"""PostgreSQL's limit for the name of a channel: LISTEN cuts longer ones, NOTIFY refuses them."""

Run = tuple[str, datetime]
"""A message's id and the time at which it was claimed."""

_Q = load("queue")


class Claimed(NamedTuple):
    """A claimed message; `due` and `claimed_at` are times of PostgreSQL's clock.

    `message` is None where the document is too large to be read.
    """

    message_id: str
    message: str | None
    deaths: int
    failures: int
    priority: int
    due: datetime
    claimed_at: datetime

    @property
    def run(self) -> Run:
        """What identifies this run of the message, together with the consumer."""
        return self.message_id, self.claimed_at


class _ClaimRow(NamedTuple):
    """A row of a claim. If there is nothing to claim, there is one row, whose `claimed` has only NULLs."""

    claimed: Claimed
    next_due_seconds: float | None


class _ClaimRowWithDelivery(NamedTuple):
    """The same with the delivery of the message; `held` has only NULLs if it was not claimed."""

    claimed: Claimed
    next_due_seconds: float | None
    held: DeliveryClaim


class DeliveryTerms(NamedTuple):
    """How deliveries to an archive are claimed with their messages: its AE title, and the lease."""

    destination: str
    lease: timedelta


class WorkerTerms(NamedTuple):
    """How deliveries to the workers of an application are claimed with their messages.

    `lease` is that of the claim, `result_wait` the time that a worker has for its result.
    """

    application: str
    lease: timedelta
    result_wait: timedelta


Terms = DeliveryTerms | WorkerTerms


@dataclass(frozen=True, slots=True)
class MessageClaim:
    """The claimed messages, and the claimed deliveries by the ids of their messages.

    `next_due_seconds` is 0 if more messages may be due now; None if none waits.
    """

    messages: tuple[Claimed, ...]
    next_due_seconds: float | None = None
    held: Mapping[str, DeliveryClaim] = field(default_factory=dict)


# ---- the connection of a consumer ----------------------------------------------------------------


def listen(session: Session, queue_names: Sequence[str]) -> None:
    """Subscribe this connection to the NOTIFYs of these queues."""
    for queue_name in queue_names:
        quoted = channel(queue_name).replace('"', '""')
        session.script(f'LISTEN "{quoted}"')


def prepare_consumer(session: Session) -> None:
    """Make the settings of a consumer's connection and prepare its claims."""
    session.run(_Q["configure_consumer"])
    session.run(_Q["prepare_claim"])
    session.run(_Q["prepare_claim_with_deliveries"])
    session.run(_Q["prepare_claim_with_workers"])


def relax_durability(session: Session) -> None:
    """Commit without waiting for the disk: if a crash loses an ack, its message runs twice, harmlessly."""
    session.run(_Q["relax_durability"])


# ---- the life of a message -----------------------------------------------------------------------


def claim(
    session: Session,
    queue_name: str,
    wanted: int,
    consumer: int,
    floors: Sequence[datetime | None] = NO_FLOORS,
    *,
    slots: int | None = None,
    terms: Terms | None = None,
) -> MessageClaim:
    """Claim at most `wanted` due messages for `consumer`: the most urgent priority first, then the oldest.

    The first `slots` (None: all) are marked as started, the others as claimed ahead. `floors` holds, for each
    of the GATED_PRIORITIES, a due time before which there is nothing to find (None: search all). With `terms`
    the deliveries of the messages are claimed, too.
    """
    parameters: dict[str, object] = {
        "queue_name": queue_name,
        "wanted": wanted,
        "consumer": consumer,
        "floors": list(floors),
        "slots": wanted if slots is None else slots,
    }
    if terms is None:
        return _claim(session.rows(_ClaimRow, _Q["claim"], **parameters))
    if isinstance(terms, DeliveryTerms):
        found = session.rows(
            _ClaimRowWithDelivery,
            _Q["claim_with_deliveries"],
            destination=terms.destination,
            lease=terms.lease,
            **parameters,
        )
    else:
        found = session.rows(
            _ClaimRowWithDelivery,
            _Q["claim_with_workers"],
            application=terms.application,
            lease=terms.lease,
            result_wait=terms.result_wait,
            expire_actor_name=EXPIRE_RESULT.actor_name,
            expire_queue=EXPIRE_RESULT.queue_name,
            **parameters,
        )
    # A delivery may have two messages for a while. The first one holds it; the other one finds it claimed.
    first = {row.held.claim_id: row for row in reversed(found) if row.held.delivery_id is not None}
    return _claim(found, {row.claimed.message_id: row.held for row in first.values()})


def claim_exclusive(session: Session, queue_name: str, consumer: int) -> MessageClaim:
    """Claim one message that must run alone, if one is due."""
    return _claim(session.rows(_ClaimRow, _Q["claim_exclusive"], queue_name=queue_name, consumer=consumer))


def _claim(
    found: Sequence[_ClaimRow | _ClaimRowWithDelivery], held: Mapping[str, DeliveryClaim] | None = None
) -> MessageClaim:
    messages = tuple(row.claimed for row in found if row.claimed.message_id is not None)
    return MessageClaim(messages, found[0].next_due_seconds if found else None, held or {})


def waiting_exclusive(session: Session, queue_names: Iterable[str]) -> frozenset[str]:
    """Return the queues in which a message is due that must run alone."""
    return frozenset(session.values(_Q["waiting_exclusive"], queue_names=list(queue_names)))


def finish(session: Session, runs: Iterable[Run], consumer: int) -> None:
    """Delete the messages of ended runs. A message that was claimed again stays."""
    session.run_each(_Q["finish"], [{"consumer": consumer, **named} for named in _named(runs)])


def give_back(session: Session, runs: Iterable[Run], consumer: int) -> int:
    """Make messages that were not started wait again as if never claimed; return how many."""
    return sum(session.run(_Q["give_back"], consumer=consumer, **named) for named in _named(runs))


def release(session: Session, held: Sequence[DeliveryClaim]) -> int:
    """Make deliveries pending again that were claimed with their messages and not started; return how many.

    Call it before the messages are given back. Claims that were lost are left as they are.
    """
    if not held:
        return 0
    return session.run(
        _Q["release"],
        delivery_ids=[one.delivery_id for one in held],
        claim_ids=[one.claim_id for one in held],
    )


def _named(runs: Iterable[Run]) -> list[dict[str, object]]:
    """Return the parameters of one statement per claim; the messages of a claim have one time."""
    by_claim: dict[datetime, list[str]] = {}
    for message_id, claimed_at in runs:
        by_claim.setdefault(claimed_at, []).append(message_id)
    return [{"message_ids": ids, "claimed_at": claimed_at} for claimed_at, ids in by_claim.items()]


def retry(
    session: Session, run: Run, consumer: int, *, delay: timedelta, reason: str | None, counted: bool = True
) -> int:
    """Make the message of this run due after `delay`, with one failure more if `counted`."""
    message_id, claimed_at = run
    return session.run(
        _Q["retry"],
        message_id=message_id,
        claimed_at=claimed_at,
        consumer=consumer,
        delay=delay,
        reason=reason,
        counted=counted,
    )


def dead_letter(session: Session, run: Run, consumer: int, *, reason: str) -> int:
    """Make the message of this run dead, with the reason."""
    message_id, claimed_at = run
    return session.run(
        _Q["dead_letter"], message_id=message_id, claimed_at=claimed_at, consumer=consumer, reason=reason
    )


def enqueue(
    session: Session,
    queue_name: str,
    message_id: str,
    message: str,
    *,
    delay: timedelta,
    priority: int = DEFAULT_PRIORITY,
) -> None:
    """Enqueue a message that Dramatiq encoded, due after `delay`; wake the queue after the commit."""
    session.run(
        _Q["enqueue"],
        queue_name=queue_name,
        message_id=message_id,
        message=message,
        delay=delay,
        priority=priority,
    )


def send(
    session: Session,
    queue_name: str,
    actor_name: str,
    args: Sequence[object],
    *,
    priority: int = DEFAULT_PRIORITY,
    delay: timedelta = timedelta(),
    delivery_id: int | None = None,
) -> str:
    """Write a message for an actor in the caller's transaction; wake the queue after the commit."""
    message_id: str = session.value(
        _Q["send"],
        queue_name=queue_name,
        actor_name=actor_name,
        args=json.dumps(list(args)),
        priority=priority,
        delay=delay,
        delivery_id=delivery_id,
    )
    return message_id


def channel(queue_name: str) -> str:
    """Return the channel on which a queue's consumers are woken.

    It is dramatiq-pg's name for it, or one with a digest of the queue's name where that is too long. The
    queues of a route's targets share the channel of the route.
    """
    queue_name = route_of_queue(queue_name) or queue_name
    name = f"dramatiq.{queue_name}.enqueue"
    if len(name.encode()) <= MAX_CHANNEL_BYTES:
        return name
    return f"dramatiq.{md5(queue_name.encode(), usedforsecurity=False).hexdigest()}.enqueue"


def notification(queue_names: Iterable[str]) -> str:
    """Return statements that wake the consumers of these queues when the caller's transaction is committed.

    PostgreSQL makes other transactions with a NOTIFY wait for that commit.
    """
    names = sorted(channel(name).replace("'", "''") for name in queue_names)
    return "".join(f"SELECT pg_notify('{name}', '');" for name in names)


def notify(session: Session, queue_names: Iterable[str]) -> None:
    """Send NOTIFY to the consumers of these queues. Do not call it in a transaction that holds locks."""
    session.run(_Q["notify"], channels=sorted(map(channel, queue_names)))
