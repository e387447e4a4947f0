"""Make deliveries whose lease is over pending again, with a new message.

Other processes notice within seconds that an actor process died. This verb is for the rest: an actor that
hangs or is stopped, and a delivery whose message was lost.

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
