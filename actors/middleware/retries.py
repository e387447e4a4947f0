"""Decide how a message ends if its actor raised.

No actor of ours raises on purpose. The retries of a delivery are decided by its outcome
(`gateway.domain.outcome`), without an exception. So an exception is a bug, or PostgreSQL is away.

    transient failure   the message is due again after about TRANSIENT_DELAY; the failure is not counted
    other failure       it is due again after a backoff
    MAX_FAILURES        it is dead, with the reason

The ack writes the ending into the row of the message.
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
"""No backoff, because the actor usually has waited for a deadline already."""

TRANSIENT = (DatabaseUnavailableError, InjectedFailureError)
"""Failures that are not the fault of the message. An outage of a night must not make it dead."""

MAX_REASON = 500


class Retries(Middleware):
    """Sets the ending of a message whose actor raised."""

    def after_process_message(
        self,
        _broker: EdgeBroker,
        message: InFlightMessage,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        """Set the ending to a retry or dead, with the reason."""
        del result
        if exception is None:
            return
        # Printable, because the text may quote bytes from the network, and PostgreSQL refuses a NUL.
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
