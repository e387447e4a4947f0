"""Turns a message that somebody enqueues into the columns of its row, or refuses it for good.

What PostgreSQL cannot store or Dramatiq's worker cannot run is a ValueError. Whoever enqueues takes a
ConnectionError for an outage, and would try the same message for ever.
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
"""Dramatiq's priorities of an actor: 0 by default, the smaller the sooner. The row's default is added."""

REFUSES_THE_VALUE = ("22", "23", "54")
"""PostgreSQL's classes of errors that lie in the values: data exception, constraint, a limit exceeded."""

MAX_BYTES = 4 << 20
"""Of a message's document; consumers do not read larger ones."""

LONGEST_DELAY = timedelta(days=365_000)


class RefusedMessageError(DramatiqError, ValueError):
    """Permanent: this message cannot be enqueued; the text says why, and quotes no value of it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)  # type: ignore[no-untyped-call]  # Dramatiq's class has no types


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The columns of a new row."""

    queue_name: str
    message_id: str
    document: str
    delay: timedelta
    priority: int


def outgoing(message: Message[object], delay: float | None, *, priority: int) -> Outgoing:
    """Return the row of a message that is due after `delay` milliseconds, or at its option `eta`.

    Raises:
        RefusedMessageError: there is none.
    """
    try:
        require_queue_name(message.queue_name)
        message_id = _uuid(message.message_id)
        require_message(message.asdict())
        stored, wait = message, delay or 0.0
        if (eta := message.options.get("eta")) is not None:
            # The row's due time says it, and Dramatiq's worker would hold the message in memory.
            stored, wait = message.copy(), max(eta - time.time() * 1000, wait)
            del stored.options["eta"]
        document = _document(stored)
        return Outgoing(message.queue_name, message_id, document, _delay(wait), DEFAULT_PRIORITY + priority)
    except NoMessageError as error:
        raise RefusedMessageError(f"message {message.message_id!r} cannot be enqueued: {error}") from error
    except (ValueError, RecursionError) as error:
        # A bad queue name, a document with a cycle, an integer of thousands of digits.
        raise RefusedMessageError(
            f"message {message.message_id!r} cannot be enqueued: {type(error).__name__}: {error}"
        ) from error


def require_queue_name(queue_name: str) -> None:
    """Return if PostgreSQL can store that name.

    Raises:
        ValueError: it cannot.
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
