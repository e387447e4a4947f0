"""In flight with nobody working on it → pending with a message.

An actor that died is noticed within seconds by the others; this catches what they cannot: the lease of
one that hangs, or of the last one of all.
"""

from gateway.database.tables import sweeps
from gateway.sweep.context import BATCH, Counts, SweepContext


def rescue(context: SweepContext) -> Counts:
    """Every delivery whose lease is over is pending; counts `rescued`."""
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
