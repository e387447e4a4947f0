"""Write the new id of a process into the messages that it holds, after its connection was lost.

A process that loses its connection loses its lock, and its id with it. It comes back under a new id, and
still holds messages that were claimed under the old one.

    still under the old id        the message and its delivery get the new id
    freed by a reaper meanwhile   the process lives, so the death that was counted is undone. If the message
                                  runs, its run goes on; its ack changes nothing; its delivery may be sent
                                  twice at once
    the row names the old id,     the answer of the claim was lost, or the message has ended and its ack is
    but this process does not     not written yet. If no ack comes, a reaper frees it; no death is counted
    hold the message

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
    """Write `consumer` into the messages in flight that are held under one of the `lost` ids."""

    def adopt_runs(runs: Collection[messages.Run]) -> frozenset[messages.Run]:
        adopted = consumers.adopt(session, runs, lost=lost, consumer=consumer)
        # Undo deaths after the adoption, which waits for a reaper that has locked the rows. A reaper freed
        # the runs that were not adopted.
        if freed := set(runs) - adopted:
            consumers.undo_deaths(session, {message_id for message_id, _ in freed}, lost=lost)
        return adopted

    in_flight.rename(adopt_runs, lost, consumer)
    log.write(
        Stage.QUEUE,
        "reconnected",
        level="warning",
        detail=f"consumer {', '.join(map(str, lost))} is now {consumer}",
    )
