"""What a message asks for: the name of an actor and its queue. Whoever enqueues knows only this.

The SCP does not import actors; a contract test ties each contract to exactly one actor. Messages carry
ids and AE titles, never more (G8): the row is the truth, the message a wake-up.
"""

from dataclasses import dataclass

from gateway.domain.routing import Route


@dataclass(frozen=True, slots=True)
class Contract:
    """An actor by name, and the queue in which its messages wait."""

    actor_name: str
    queue_name: str


FORWARD_TO_PACS = Contract("forward_to_pacs", Route.PACS)  # (delivery_id)
FORWARD_TO_WORKER = Contract("forward_to_worker", Route.WORKERS)  # (delivery_id)
PROBE_PACS = Contract("probe_pacs", Route.PACS)  # (ae_title)
PROBE_WORKER = Contract("probe_worker", Route.WORKERS)  # (ae_title)
EXPIRE_RESULT = Contract("expire_result", "sweep")  # (expectation_id)
SWEEP = Contract("sweep", "sweep")  # ()

FORWARD: dict[Route, Contract] = {Route.PACS: FORWARD_TO_PACS, Route.WORKERS: FORWARD_TO_WORKER}
PROBE: dict[Route, Contract] = {Route.PACS: PROBE_PACS, Route.WORKERS: PROBE_WORKER}
ALL = (FORWARD_TO_PACS, FORWARD_TO_WORKER, PROBE_PACS, PROBE_WORKER, EXPIRE_RESULT, SWEEP)

UNGATED_PRIORITY = -1
"""The priority of messages that pass a closed route: the probe that may open it again."""
