"""Remember which message each thread runs, so that its actor can take the delivery claimed with it."""

import threading

from dramatiq.middleware import Middleware

from actors.queue.broker import EdgeBroker
from actors.queue.in_flight import InFlightMessage

_running = threading.local()


def running_message() -> InFlightMessage | None:
    """Return the message that this thread runs; None if it runs none."""
    message: InFlightMessage | None = getattr(_running, "message", None)
    return message


class RunningMessage(Middleware):
    """Notes the message of each thread while its actor runs."""

    def before_process_message(self, _broker: EdgeBroker, message: InFlightMessage) -> None:
        """Note the message."""
        _running.message = message

    def after_process_message(
        self,
        _broker: EdgeBroker,
        _message: InFlightMessage,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        """Forget the message."""
        del result, exception
        _running.message = None
