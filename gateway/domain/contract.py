"""The contracts: for each kind of message, the name of the actor that runs it and its queue.

The code that enqueues uses a contract and does not import the actors. A test checks that each contract has
exactly one actor. A message carries an id or an AE title, never more (G8): the state is in the row, and
the message only wakes the actor.
"""

from dataclasses import dataclass

from gateway.domain.routing import Route


@dataclass(frozen=True, slots=True)
class Contract:
    """The name of an actor, and of its queue; a target may have a queue of its own (`Target.queue`)."""

    actor_name: str
    queue_name: str


FORWARD_TO_PACS = Contract("forward_to_pacs", Route.PACS)  # (delivery_id)
FORWARD_TO_WORKER = Contract("forward_to_worker", Route.WORKERS)  # (delivery_id)
FORWARD_TO_ARCHIVE = Contract("forward_to_archive", Route.ARCHIVES)  # (delivery_id)
PROBE_PACS = Contract("probe_pacs", Route.PACS)  # (ae_title)
PROBE_WORKER = Contract("probe_worker", Route.WORKERS)  # (ae_title)
PROBE_ARCHIVE = Contract("probe_archive", Route.ARCHIVES)  # (ae_title)
FORWARD_UNIT = Contract("forward_unit", Route.WORKERS)  # (unit_id)
EXPIRE_RESULT = Contract("expire_result", "sweep")  # (expectation_id)
EXPIRE_UNIT = Contract("expire_unit", "sweep")  # (unit_id)
END_PAUSE = Contract("end_pause", "sweep")  # (ae_title)
SWEEP = Contract("sweep", "sweep")  # ()
WATCH = Contract("watch", "sweep")  # ()
NOTIFY = Contract("notify", "sweep")  # ()

FORWARD: dict[Route, Contract] = {
    Route.PACS: FORWARD_TO_PACS,
    Route.WORKERS: FORWARD_TO_WORKER,
    Route.ARCHIVES: FORWARD_TO_ARCHIVE,
}
PROBE: dict[Route, Contract] = {
    Route.PACS: PROBE_PACS,
    Route.WORKERS: PROBE_WORKER,
    Route.ARCHIVES: PROBE_ARCHIVE,
}
ALL = (
    *FORWARD.values(),
    *PROBE.values(),
    FORWARD_UNIT,
    EXPIRE_RESULT,
    EXPIRE_UNIT,
    END_PAUSE,
    SWEEP,
    WATCH,
    NOTIFY,
)

UNGATED_PRIORITY = -1
"""The priority of messages that run while an open breaker stops a route, such as the probe that closes it."""
