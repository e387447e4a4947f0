"""The seam of `random_fail_rate` in the actors: a share of forwards fails before it begins."""

from collections.abc import Callable

from dramatiq.middleware import Middleware, MiddlewareError

from actors.queue.broker import EdgeBroker
from actors.queue.in_flight import InFlightMessage
from gateway import log
from gateway.domain.routing import Route
from gateway.faults import Faults, Name
from gateway.log import Stage

_STAGES = {Route.PACS.value: Stage.FORWARD_PACS, Route.WORKERS.value: Stage.FORWARD_WORKER}


class InjectedFailureError(MiddlewareError):
    """Transient: an operator asked for it. Dramatiq lets only its MiddlewareError out of a `before`."""


class Injection(Middleware):
    """Asks the faults that are active now, by the stage of the message's queue."""

    def __init__(self, faults: Callable[[], Faults]) -> None:
        self._faults = faults

    def before_process_message(self, _broker: EdgeBroker, message: InFlightMessage) -> None:
        """Raise InjectedFailureError for the share that is to fail."""
        stage = _STAGES.get(message.queue)
        if stage is not None and self._faults().fails_at_random(stage):
            log.write(stage, "fault_injected", fault=Name.RANDOM_FAIL_RATE, detail=f"message {message.id}")
            raise InjectedFailureError("fault random_fail_rate")
