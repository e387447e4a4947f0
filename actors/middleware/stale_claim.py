"""Drops a message that was claimed under an id which was lost before its actor began.

Its lock is gone, so another process may be running it already. It is not acked but given back, which does
nothing where it was reaped.
"""

from dramatiq.middleware import Middleware, SkipMessage

from actors.queue.broker import EdgeBroker
from actors.queue.in_flight import UNSTARTED, InFlightMessage


class StaleClaim(Middleware):
    """Stands first: nothing else sees a message that does not run."""

    def before_process_message(self, broker: EdgeBroker, message: InFlightMessage) -> None:
        """Raise SkipMessage unless the message is held under the id that is alive now."""
        if message.consumer != broker.consumer_id():
            message.ending = UNSTARTED
            raise SkipMessage(f"message {message.id} was claimed under an id that is lost")
