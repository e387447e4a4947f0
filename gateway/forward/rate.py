"""Keep the rate of an archive, `max_instances_per_second`, over all actor processes.

PostgreSQL gives each send a time slot, one after the other. The thread waits for its slot before it claims
the delivery. While the next slot is more than a second ahead, the queue claims no further messages of this
archive (functions/dramatiq.room.sql), so only a few threads wait, and other archives have theirs.

If the process dies while it waits, its slot stays empty, and another process runs the message.
"""

import time
from datetime import timedelta

from gateway.config.destination import StorageDestination
from gateway.database.tables import destinations
from gateway.forward.context import ForwardContext

LONGEST_SECONDS = 60.0
"""Must exceed the slots of all threads at the lowest rate; a clock that was set back blocks none longer."""


def wait_for_slot(context: ForwardContext, archive: StorageDestination) -> None:
    """Wait until an instance may be sent to this archive; return at once where it has no rate.

    Raises:
        DatabaseError: PostgreSQL did not give a slot.
    """
    rate = archive.max_instances_per_second
    if rate is None:
        return
    # Not durable: a slot that a crash of PostgreSQL takes back is given again.
    with context.database.statement(durable=False) as session:
        wait = destinations.take_slot(session, archive.ae_title, pause=timedelta(seconds=1 / rate))
    time.sleep(min(wait, LONGEST_SECONDS))
