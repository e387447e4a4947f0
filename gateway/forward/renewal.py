"""Renew the claim of a delivery while its bytes are sent.

The lease of a claim limits how long a process may be silent, not how large an instance may be. So a send that
makes progress renews its claim before the lease ends.

A process that was stopped may have lost the delivery to another process. It breaks off at its next renewal,
so that it does not complete an old version of an instance after a newer one was sent.

    SIGSTOP                  the lease ends, and another process may claim the delivery. When the process
                             continues, it renews its claim before it sends more
    frozen virtual machine   PostgreSQL drops the lock after 5 s, and the delivery can be claimed. If the
                             machine's clock stood still, the next renewal may be a third of the lease later
"""

import time
from contextlib import suppress
from datetime import timedelta

from gateway.database.tables import deliveries
from gateway.database.tables.deliveries import DeliveryClaim
from gateway.errors import ClaimLostError, DatabaseError
from gateway.forward.context import ForwardContext
from gateway.forward.turns import Sending

RENEWALS_PER_LEASE = 3
"""Two renewals in a row may fail before the lease ends."""


class Renewal:
    """The claim of one attempt. `began` is a monotonic time before the claim was made.

    `sending` is the turn that the attempt holds at the PACS; progress is noted in it as well.
    """

    def __init__(
        self, context: ForwardContext, claim: DeliveryClaim, *, began: float, sending: Sending | None
    ) -> None:
        self._context = context
        self._claim = claim
        self._sending = sending
        self._lease = timedelta(seconds=context.configuration.forwarder.lease_seconds)
        self._due = began + self._lease.total_seconds() / RENEWALS_PER_LEASE

    def note_progress(self) -> None:
        """Renew the claim if it is time. Call this before each piece of the data set.

        Raises:
            ClaimLostError: the claim no longer holds (another process has it, or PostgreSQL lost it).
        """
        self._context.associations.note_progress(self._claim.destination)
        if self._sending is not None:
            self._sending.note_progress()
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._lease.total_seconds() / RENEWALS_PER_LEASE
        held = True
        # If PostgreSQL is away the send goes on. At worst the instance is sent twice, which is harmless (G4).
        with suppress(DatabaseError), self._context.database.statement() as session:
            held = deliveries.renew(session, self._claim, lease=self._lease)
        if not held:
            raise ClaimLostError(
                "its claim no longer holds (another process has it, or PostgreSQL lost it): "
                "the attempt was broken off"
            )

    def note_answer(self) -> None:
        """Note that the peer has answered, to measure how long its answers usually take."""
        if self._sending is not None:
            self._sending.note_answer()
