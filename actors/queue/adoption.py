"""Give messages that still run the new id of their process, after its connection was lost.

A process that loses its connection loses its lock, and its id with it. It comes back under a new id, and its
actors may still run messages that were claimed under the old one.

    not reaped                 the message and its delivery get the new id
    reaped meanwhile           the process is not dead, so the death that was counted is undone
    in a row, not in flight    the answer of its claim was lost, or it has ended: it is freed without a death

If the answer of a claim or of an adoption is lost with the connection, the rows may name any earlier id. So
`actors.queue.liveness` remembers every id until an adoption was answered.
"""

from collections.abc import Collection

from actors.queue.in_flight import InFlightMessages
from gateway import log
from gateway.database.session import Session
from gateway.database.tables import consumers, messages
from gateway.log import Stage


def adopt(session: Session, in_flight: InFlightMessages, lost: Collection[int], consumer: int) -> None:
    """Give `consumer` the messages in flight that are held under one of the `lost` ids."""

    def adopt_runs(runs: Collection[messages.Run]) -> frozenset[messages.Run]:
        adopted = consumers.adopt(session, runs, lost=lost, consumer=consumer)
        # After the adoption, which waits for a reaper at work. Only now is it known what that reaper freed.
        if reaped := set(runs) - adopted:
            consumers.undo_deaths(session, {message_id for message_id, _ in reaped}, lost=lost)
        return adopted

    in_flight.rename(adopt_runs, lost, consumer)
    log.write(
        Stage.QUEUE,
        "reconnected",
        level="warning",
        detail=f"consumer {', '.join(map(str, lost))} is now {consumer}",
    )
