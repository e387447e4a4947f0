"""Turn a message that is enqueued into the columns of its row, or refuse it.

A message that PostgreSQL cannot store, or that Dramatiq's worker cannot run, is refused with a ValueError.
Callers treat a ConnectionError as an outage, and would enqueue the same message again for ever.
"""

import math
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn
from uuid import UUID

from dramatiq import Message
from dramatiq.errors import DramatiqError

from actors.queue.document import NoMessageError, require_message
from gateway.database.tables.messages import DEFAULT_PRIORITY, GATED_PRIORITIES

ACTOR_PRIORITIES = range(GATED_PRIORITIES[0] - DEFAULT_PRIORITY, GATED_PRIORITIES[-1] - DEFAULT_PRIORITY + 1)
"""Priorities of an actor, as Dramatiq counts them: 0 is the default. The row adds DEFAULT_PRIORITY."""

REFUSES_THE_VALUE = ("22", "23", "54")
"""PostgreSQL's error classes for bad values: data exception, constraint violation, program limit exceeded."""

MAX_BYTES = 4 << 20
"""The largest document. Consumers do not read larger ones."""

LONGEST_DELAY = timedelta(days=365_000)


class RefusedMessageError(DramatiqError, ValueError):
    """Permanent: the message cannot be enqueued. The text says why, without its arguments (G8)."""

    def __init__(self, text: str) -> None:
        super().__init__(text)  # type: ignore[no-untyped-call]  # Dramatiq's class has no types


@dataclass(frozen=True, slots=True)
class OutgoingRow:
    """The columns of a new row."""

    queue_name: str
    message_id: str
    document: str
    delay: timedelta
    priority: int


def outgoing(message: Message[object], delay: float | None, *, priority: int) -> OutgoingRow:
    """Return the row of a message that is due after `delay` milliseconds, or at its option `eta`.

    Raises:
        RefusedMessageError: PostgreSQL cannot store it, or Dramatiq cannot run it.
    """
    try:
        require_queue_name(message.queue_name)
        message_id = _uuid(message.message_id)
        require_message(message.asdict())
        stored, wait = message, delay or 0.0
        if (eta := message.options.get("eta")) is not None:
            # The due time of the row replaces `eta`, with which Dramatiq would hold the message in memory.
            stored, wait = message.copy(), max(eta - time.time() * 1000, wait)
            del stored.options["eta"]
        document = _document(stored)
        return OutgoingRow(
            message.queue_name, message_id, document, _delay(wait), DEFAULT_PRIORITY + priority
        )
    except NoMessageError as error:
        raise RefusedMessageError(f"message {message.message_id!r} cannot be enqueued: {error}") from error
    except (ValueError, RecursionError) as error:
        # For example a bad queue name, a document with a cycle, an integer of thousands of digits.
        raise RefusedMessageError(
            f"message {message.message_id!r} cannot be enqueued: {type(error).__name__}: {error}"
        ) from error


def require_queue_name(queue_name: str) -> None:
    """Return if PostgreSQL can store that name of a queue.

    Raises:
        ValueError: it is empty, no string, or has a character that PostgreSQL cannot store.
    """
    if not isinstance(queue_name, str) or not queue_name:
        raise ValueError(f"{queue_name!r} is no name of a queue: it must be a string that is not empty")
    if "\0" in queue_name or any("\ud800" <= character <= "\udfff" for character in queue_name):
        raise ValueError(f"{queue_name!r} is no name of a queue: it holds a NUL or half of a surrogate pair")


def _uuid(message_id: object) -> str:
    try:
        return str(UUID(message_id)) if isinstance(message_id, str) else _refuse_id()
    except ValueError:
        return _refuse_id()


def _refuse_id() -> NoReturn:
    raise NoMessageError("its id is no UUID")


def _document(message: Message[object]) -> str:
    document = message.encode().decode()
    if len(document) > MAX_BYTES:
        raise NoMessageError(f"its document has {len(document):,} bytes; the limit is {MAX_BYTES:,}")
    return document


def _delay(milliseconds: float) -> timedelta:
    longest = LONGEST_DELAY / timedelta(milliseconds=1)
    if not math.isfinite(milliseconds) or milliseconds > longest:
        raise NoMessageError("its delay is infinite, or longer than 1,000 years")
    return timedelta(milliseconds=max(milliseconds, 0.0))
