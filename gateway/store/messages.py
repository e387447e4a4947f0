"""The rows of dramatiq.queue: what a consumer does with messages, and what an operator sees of them.

    queued   -> consumed            claim, claim_alone (due, room on the route, by priority and age)
    consumed -> gone                finish
    consumed -> queued              retry (its actor raised), give_back (not started)
    consumed -> rejected            bury (its actor raised too often)
    rejected -> queued              requeue_dead, by an operator

What the death of a process does to what it held stands in `gateway.store.consumers`.
Each function is one statement, and so whole or not at all. A message names the consumer that holds it; every
function that ends its life compares that name, so what was freed and claimed by another is left alone.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.store.database import Database, Row, Session
from gateway.store.queries import load

ALONE_DEATHS = 2
"""After so many deaths of processes that ran it, a message runs with no neighbours."""

POISON_DEATHS = 3
"""After so many it is dead. The last was its own: it ran alone."""

DEFAULT_PRIORITY = 4

GATED_PRIORITIES = range(8)
"""Those that wait for room on their route; see `queue_priority` in the schema."""

NO_FLOORS: tuple[datetime | None, ...] = (None,) * len(GATED_PRIORITIES)

_Q = load("queue")


@dataclass(frozen=True, slots=True)
class Claimed:
    """One message as its claimer got it; `due` by the database's clock."""

    message_id: str
    message: str
    deaths: int
    failures: int
    priority: int
    due: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim brought; with nothing, the seconds until the next message is due (None: none waits)."""

    messages: tuple[Claimed, ...]
    next_due_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """What one process saw of an actor in one minute (minutes since 1970)."""

    minute: int
    queue_name: str
    actor_name: str
    arrived: int
    done: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages of a queue are in a state; `later` of them are not yet due."""

    queue_name: str
    state: str
    count: int
    later: int
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True)
class Flow:
    """What came due and what was finished in a queue over some minutes; `seconds` spent in its actors."""

    queue_name: str
    arrived: int
    done: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    """One consumer process and what it holds."""

    id: int
    host: str
    pid: int
    queue_names: tuple[str, ...]
    threads: int
    started_at: datetime
    alive: bool
    holds: int
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True)
class Dead:
    """A message that no consumer takes any more, and why."""

    message_id: str
    queue_name: str
    actor_name: str
    args: tuple[object, ...]
    delivery_id: int | None
    since: datetime
    deaths: int
    failures: int
    reason: str | None


# ---- the connection of a consumer ----------------------------------------------------------------


def listen(session: Session, queue_names: Sequence[str]) -> None:
    """This connection hears when messages of these queues were committed."""
    for queue_name in queue_names:
        quoted = channel(queue_name).replace('"', '""')
        session.script(f'LISTEN "{quoted}"')


def prepare_consumer(session: Session) -> None:
    """The settings and the prepared claim of a consumer's connection."""
    session.run(_Q["configure_consumer"])
    session.run(_Q["prepare_claim"])


def relax_durability(session: Session) -> None:
    """Commits of this connection do not wait for the disk: for acks, whose loss is a harmless repeat."""
    session.run(_Q["relax_durability"])


# ---- the life of a message -----------------------------------------------------------------------


def claim(
    session: Session,
    queue_name: str,
    wanted: int,
    consumer: int,
    floors: Sequence[datetime | None] = NO_FLOORS,
    *,
    seats: int | None = None,
) -> Claim:
    """At most `wanted` due messages, oldest first within the most urgent priority, held by `consumer`.

    The first `seats` (None: all) count as started, the others as claimed ahead. `floors` says for each of the
    GATED_PRIORITIES before which due time not to look (None: look everywhere).
    """
    rows = session.all(
        _Q["claim"],
        queue_name=queue_name,
        wanted=wanted,
        consumer=consumer,
        floors=list(floors),
        seats=wanted if seats is None else seats,
    )
    return _claim(rows)


def claim_alone(session: Session, queue_name: str, consumer: int) -> Claim:
    """One message that must run with no neighbours, if one waits."""
    return _claim(session.all(_Q["claim_alone"], queue_name=queue_name, consumer=consumer))


def _claim(rows: list[Row]) -> Claim:
    messages = tuple(Claimed(*r[:6]) for r in rows if r[0] is not None)
    return Claim(messages, None if messages or not rows else rows[0][6])


def waiting_alone(session: Session, queue_names: Iterable[str]) -> frozenset[str]:
    """The queues in which a message waits that must run with no neighbours."""
    rows = session.all(_Q["waiting_alone"], queue_names=list(queue_names))
    return frozenset(str(row[0]) for row in rows)


def finish(session: Session, message_ids: Iterable[str], consumer: int) -> int:
    """The messages are gone, where `consumer` still held them; how many."""
    return session.run(_Q["finish"], message_ids=list(message_ids), consumer=consumer)


def give_back(session: Session, message_ids: Iterable[str], consumer: int) -> int:
    """The messages wait again as if never claimed, where `consumer` still held them; how many."""
    return session.run(_Q["give_back"], message_ids=list(message_ids), consumer=consumer)


def retry(
    session: Session,
    message_id: str,
    consumer: int,
    *,
    due: datetime,
    delay: timedelta,
    reason: str,
    counted: bool = True,
) -> int:
    """The message, claimed with this `due`, is due after `delay`, with one failure more if `counted`."""
    return session.run(
        _Q["retry"],
        message_id=message_id,
        consumer=consumer,
        due=due,
        delay=delay,
        reason=reason,
        counted=counted,
    )


def bury(session: Session, message_id: str, consumer: int, *, reason: str) -> int:
    """The message is dead, with the reason."""
    return session.run(_Q["bury"], message_id=message_id, consumer=consumer, reason=reason)


def enqueue(
    session: Session,
    queue_name: str,
    message_id: str,
    message: str,
    *,
    delay: timedelta,
    priority: int = DEFAULT_PRIORITY,
) -> None:
    """A message that Dramatiq encoded waits, due after `delay`; wake the queue after the commit."""
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
    """The id of a new message for an actor, in the caller's transaction; wake the queue after the commit."""
    row = session.one(
        _Q["send"],
        queue_name=queue_name,
        actor_name=actor_name,
        args=json.dumps(list(args)),
        priority=priority,
        delay=delay,
        delivery_id=delivery_id,
    )
    assert row is not None
    return str(row[0])


def channel(queue_name: str) -> str:
    """The channel on which a queue's consumers are woken; dramatiq-pg's name for it."""
    return f"dramatiq.{queue_name}.enqueue"


def notify(session: Session, queue_names: Iterable[str]) -> None:
    """The consumers of these queues look at once. Never in a transaction that others wait for."""
    session.run(_Q["notify"], queue_names=list(queue_names))


# ---- what is seen --------------------------------------------------------------------------------


def count_rates(session: Session, rates: Sequence[Rate]) -> None:
    """What a process finished is added to the table that `flows` reads."""
    session.run(
        _Q["count_rates"],
        minutes=[r.minute for r in rates],
        queue_names=[r.queue_name for r in rates],
        actor_names=[r.actor_name for r in rates],
        arrived=[r.arrived for r in rates],
        done=[r.done for r in rates],
        failed=[r.failed for r in rates],
        seconds=[r.seconds for r in rates],
    )


def forget_rates(session: Session) -> int:
    """Rates older than a day are gone."""
    return session.run(_Q["forget_rates"])


def depths(session: Session) -> list[Depth]:
    """How many messages wait, run or are dead, by queue."""
    return [Depth(*row) for row in session.all(_Q["depths"])]


def flows(session: Session, window: timedelta) -> list[Flow]:
    """What came in and went out of each queue over `window`, to the minute and some seconds late."""
    return [Flow(*row) for row in session.all(_Q["rates"], window=window)]


def consumers(session: Session) -> list[ConsumerRow]:
    """Every consumer process that is alive or not yet cleared, and what it holds."""
    return [ConsumerRow(r[0], r[1], r[2], tuple(r[3]), *r[4:]) for r in session.all(_Q["consumers"])]


def dead(session: Session, limit: int = 100, after: tuple[datetime, str] | None = None) -> list[Dead]:
    """The messages that died last; those before `after`, time and id of a dead one, if given."""
    since, message_id = after or (None, None)
    rows = session.all(_Q["dead"], limit=limit, since=since, message_id=message_id)
    return [Dead(r[0], r[1], r[2], tuple(r[3] or ()), *r[4:]) for r in rows]


def requeue_dead(session: Session, message_ids: Sequence[str] | None) -> list[str]:
    """Dead messages wait again with a clean record (None: all of them); the queue of each."""
    ids = None if message_ids is None else list(message_ids)
    return [str(row[0]) for row in session.all(_Q["requeue_dead"], message_ids=ids)]


def vacuum(database: Database) -> None:
    """Dead rows and index entries are free for reuse; skipped where somebody vacuums already."""
    with database.statement() as session:
        session.run(_Q["vacuum"])
