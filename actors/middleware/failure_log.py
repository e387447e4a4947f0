"""Log actors that raise and messages that become dead; an operator may have to act on them."""

from dramatiq.middleware import Middleware

from actors.queue.broker import EdgeBroker
from actors.queue.in_flight import EndingKind, InFlightMessage
from gateway import log
from gateway.log import Stage


class FailureLog(Middleware):
    """Stands before Retries in the list, so its `after` signal runs when Retries has decided."""

    def after_process_message(
        self,
        _broker: EdgeBroker,
        message: InFlightMessage,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        """Log a failure with its reason and what follows."""
        del result
        if exception is None:
            return
        ending = message.ending
        dead = ending.kind is EndingKind.DEAD
        log.write(
            Stage.QUEUE,
            "message_dead" if dead else "actor_failed",
            level="error" if dead else "warning",
            error=ending.reason,
            attempt=message.failures + 1,
            next_in_seconds=None if dead else ending.delay.total_seconds(),
            detail=f"message {message.id} of actor {message.actor}, queue {message.queue}",
        )
