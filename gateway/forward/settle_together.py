"""Record what peers took, for several deliveries in one statement, and delete their messages with it.

An actor hands over a `SentDelivery` and ends. The thread that writes the endings of messages
(`actors.queue.ack`) calls `settle_together` for all that were handed over meanwhile. Everything but a plain
success is settled by its actor alone, see `gateway.forward.settle`.

If the process dies
    before the commit            the deliveries stay in flight. Others get their messages and claim them. The
                                 peers get the instances twice, which is harmless (G4)
    before the files are moved   readers look in every folder; reconcile moves the files
    in the log lines             the lines are lost; the rows are complete
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from gateway import log
from gateway.database.tables import deliveries
from gateway.database.tables.deliveries import Delivered, Settled
from gateway.errors import DatabaseError, DatabaseRefusedError, DatabaseUnavailableError
from gateway.forward.attempt import log_attempt, move
from gateway.forward.context import ForwardContext
from gateway.forward.sent import SentDelivery
from gateway.forward.settle import end_failures, settle_once
from gateway.log import Stage


def settle_together(
    context: ForwardContext, sent: Sequence[SentDelivery], messages: Sequence[Delivered]
) -> Iterator[tuple[bool, bool]]:
    """Settle a batch; `messages` has the row of each in the same order.

    Yield for each, in their order, whether its claim still held, and whether its message is deleted.

    Raises:
        DatabaseUnavailableError: call it again with those that were not yielded.
    """
    together = _together(context, messages)
    with log.together():
        for one, settled in zip(sent, together, strict=True):
            if settled is None:
                yield _alone(context, one), False
                continue
            if settled.peer_had_failed:
                _note_well(context, one)
            _finish(context, one, settled)
            yield settled.settled, settled.settled


def _together(context: ForwardContext, messages: Sequence[Delivered]) -> list[Settled | None]:
    try:
        # Not durable: see gateway/forward/settle.py.
        with context.database.statement(durable=False) as session:
            return deliveries.settle_together(session, messages)
    except DatabaseRefusedError as error:
        _raise_if_it_passes(error)
        return [None] * len(messages)  # one of them may be the cause


def _alone(context: ForwardContext, one: SentDelivery) -> bool:
    try:
        settled, breaker_closed = settle_once(context, one.claim, one.route, one.settlement, is_well=True)
    except DatabaseRefusedError as error:
        _raise_if_it_passes(error)
        # Its message runs again. The delivery stays in flight until its lease ends, and is sent again then.
        delivery_id = one.claim.delivery_id
        log.write(Stage.DB, "settle_waits", level="error", error=str(error), delivery_id=delivery_id)
        return False
    _finish(context, one, settled)
    if breaker_closed:
        context.wakeup.wake(one.route)
    return settled.settled


def _raise_if_it_passes(error: DatabaseRefusedError) -> None:
    """Raise DatabaseUnavailableError if the same statement may succeed later."""
    if error.may_pass:
        raise DatabaseUnavailableError(str(error)) from error


def _note_well(context: ForwardContext, one: SentDelivery) -> None:
    # Safe to ignore: the next instance that the peer takes ends its failures.
    with suppress(DatabaseError), context.database.statement() as session:
        if end_failures(session, one.route, one.settlement):
            context.wakeup.wake(one.route)


def _finish(context: ForwardContext, one: SentDelivery, settled: Settled) -> None:
    move(context, one.claim, settled)
    log_attempt(context, one, settled=settled.settled)
