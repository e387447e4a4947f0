"""End messages that were claimed and that no thread has started.

All other endings are written by `actors.queue.ack`. If the process dies first, a reaper frees these messages,
too.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from actors.queue.liveness import Liveness
from gateway import log
from gateway.database.tables import messages
from gateway.database.tables.deliveries import DeliveryClaim
from gateway.errors import DatabaseUnavailableError
from gateway.log import Stage


def dead_letter(liveness: Liveness, run: messages.Run, consumer: int, reason: str) -> None:
    """Make a message dead.

    Raises:
        DatabaseUnavailableError: the connection was lost; a reaper frees the message.
    """
    with liveness.session() as session:
        messages.dead_letter(session, run, consumer, reason=reason)
    log.write(Stage.QUEUE, "message_dead", level="error", error=reason, detail=f"message {run[0]}")


def postpone(liveness: Liveness, run: messages.Run, consumer: int, delay: timedelta) -> None:
    """Make a message due later.

    Raises:
        DatabaseUnavailableError: the connection was lost; a reaper frees the message.
    """
    with liveness.session() as session:
        messages.retry(session, run, consumer, delay=delay, counted=False, reason=None)


def release(liveness: Liveness, held: DeliveryClaim | None) -> None:
    """Make the delivery of a message pending again; call it before the message is given back.

    Raises:
        DatabaseUnavailableError: the connection was lost; another process may claim the delivery now.
    """
    if held is not None:
        with liveness.session() as session:
            messages.release(session, [held])


def give_back(
    liveness: Liveness,
    by_consumer: Iterable[tuple[int, list[messages.Run]]],
    held: Sequence[DeliveryClaim] = (),
) -> None:
    """Make messages claimable again, and their deliveries before.

    If the process dies in between, a reaper frees the messages. If PostgreSQL is away, log it; a reaper frees
    them then.
    """
    try:
        with liveness.session() as session:
            messages.release(session, held)
            for consumer, runs in by_consumer:
                messages.give_back(session, runs, consumer)
    except DatabaseUnavailableError as error:
        log.write(Stage.QUEUE, "not_given_back", level="warning", error=str(error))
