"""Inject the fault `random_fail_rate`: a share of the forwards fails before it begins."""

from collections.abc import Callable

from dramatiq.middleware import Middleware, MiddlewareError

from actors.queue.broker import EdgeBroker
from actors.queue.in_flight import InFlightMessage
from gateway import log
from gateway.domain.routing import route_of_queue
from gateway.faults import Faults, Name
from gateway.forward.context import STAGE


class InjectedFailureError(MiddlewareError):
    """Transient: an operator set the fault. Dramatiq only logs exceptions other than MiddlewareError."""


class Injection(Middleware):
    """Reads the active faults for the stage that belongs to the message's queue."""

    def __init__(self, faults: Callable[[], Faults]) -> None:
        self._faults = faults

    def before_process_message(self, _broker: EdgeBroker, message: InFlightMessage) -> None:
        """Raise InjectedFailureError for the share of messages that is to fail."""
        route = route_of_queue(message.queue)
        stage = None if route is None else STAGE[route]
        if stage is not None and self._faults().fails_at_random(stage):
            log.write(stage, "fault_injected", fault=Name.RANDOM_FAIL_RATE, detail=f"message {message.id}")
            raise InjectedFailureError("fault random_fail_rate")
