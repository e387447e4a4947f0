"""Give deliveries with an expired lease back: from in flight to pending, with a new message.

Other actors notice an actor that died within seconds. This verb is for the rest: an actor that hangs, or that
died when no other actor process was left.

If the process dies
    between two batches   the rest stays in flight; the next run rescues it
"""

from gateway.database.tables import sweeps
from gateway.sweep.context import BATCH, Counts, SweepContext


def rescue(context: SweepContext) -> Counts:
    """Make every delivery with an expired lease pending; count `rescued`."""
    rescued = 0
    while True:
        with context.transaction() as session:
            found = len(sweeps.rescue(session, limit=BATCH))
        rescued += found
        if found < BATCH or context.dry:
            break
    if rescued:
        context.wake_all()
    return {"rescued": rescued}
