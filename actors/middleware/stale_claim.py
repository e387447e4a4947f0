"""Give back a message whose actor has not begun, if it names a consumer id that this process has lost.

Either this process has no id now, or it has a new one and could not adopt the message
(`actors.queue.adoption`). Nobody holds the lock of the lost id, so another process may be running the message
already. So this process gives the message back instead of acking it. If a reaper has freed the message,
giving it back does nothing.
"""

from dramatiq.middleware import Middleware, SkipMessage

from actors.queue.broker import EdgeBroker
from actors.queue.in_flight import UNSTARTED, InFlightMessage


class StaleClaim(Middleware):
    """Stands first in the list, so that no other middleware sees a message that does not run."""

    def before_process_message(self, broker: EdgeBroker, message: InFlightMessage) -> None:
        """Raise SkipMessage unless the message names the present id of this process."""
        if message.consumer != broker.consumer_id():
            message.ending = UNSTARTED
            raise SkipMessage(f"message {message.id} was claimed under an id that is lost")
