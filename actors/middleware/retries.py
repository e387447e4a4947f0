"""What becomes of a message whose actor raised, which no actor of ours does on purpose.

A delivery's own retries are decided by its outcome (gateway.domain.outcome) and leave the actor without an
exception. What arrives here is a bug, or PostgreSQL that went away. The message is due again after a
backoff; at MAX_FAILURES it is dead, with the reason; what is transient is not counted. All is written by the
ack, in the message's own row.
"""

import random
from datetime import timedelta

from dramatiq.middleware import Middleware

from actors.middleware.injection import InjectedFailureError
from actors.queue.broker import EdgeBroker
from actors.queue.in_flight import Ending, EndingKind, InFlightMessage
from gateway.domain import backoff
from gateway.domain.identifiers import printable
from gateway.errors import DatabaseUnavailableError

MAX_FAILURES = 10
FIRST_DELAY = timedelta(seconds=1)
MAX_DELAY = timedelta(minutes=5)
TRANSIENT_DELAY = timedelta(seconds=2)
"""No backoff, since they are not counted; whoever raises one has waited for a deadline as a rule."""

TRANSIENT = (DatabaseUnavailableError, InjectedFailureError)
"""Say nothing about the message: an outage of a night must not leave it one failure from its death."""

MAX_REASON = 500


class Retries(Middleware):
    """Turns an exception into the message's ending."""

    def after_process_message(
        self,
        _broker: EdgeBroker,
        message: InFlightMessage,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        """The message's ending says retry or dead, with the reason."""
        del result
        if exception is None:
            return
        # Printable, because the text may quote the wire: a NUL would be refused by PostgreSQL.
        reason = printable(f"{type(exception).__name__}: {exception}", MAX_REASON)
        if isinstance(exception, TRANSIENT):
            wait = backoff.delay(1, TRANSIENT_DELAY, TRANSIENT_DELAY, random.random)
            message.ending = Ending(EndingKind.RETRY, reason, wait, counted=False)
            return
        failures = message.failures + 1
        if failures >= MAX_FAILURES:
            message.ending = Ending(EndingKind.DEAD, f"its actor raised {failures} times, last {reason}")
            message.fail()  # type: ignore[no-untyped-call]
            return
        wait = backoff.delay(failures, FIRST_DELAY, MAX_DELAY, random.random)
        message.ending = Ending(EndingKind.RETRY, reason, wait)
