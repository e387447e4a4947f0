"""Renew the claim of a delivery, or of a unit, while its bytes are sent.

A claim that is not renewed for one lease ends. A send that makes progress renews its claim before that, so
an instance of any size can be sent.

A process that was stopped may have lost the delivery to another process. It breaks off at its next renewal,
so that it does not complete an old version of an instance after a newer one was sent.

    SIGSTOP                  the lease ends, and another process may claim the delivery. When the process
                             continues, it renews its claim before it sends more
    frozen virtual machine   PostgreSQL drops the lock after 5 s, and the delivery can be claimed. If the
                             machine's clock stood still, the next renewal may be a third of the lease later
"""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from gateway.database.session import Session
from gateway.database.tables import deliveries
from gateway.database.tables.deliveries import DeliveryClaim
from gateway.errors import ClaimLostError, DatabaseError
from gateway.forward.context import ForwardContext
from gateway.forward.turns import Sending

RENEWALS_PER_LEASE = 3
"""Two renewals in a row may fail before the lease ends."""


class Lease:
    """A claim that is held while bytes are sent. `began` is a monotonic time before the claim was made.

    `renew` writes a longer lease, and returns whether the claim still holds.
    """

    def __init__(
        self, context: ForwardContext, renew: Callable[[Session, timedelta], bool], *, began: float
    ) -> None:
        self._database = context.database
        self._renew = renew
        self._lease = timedelta(seconds=context.configuration.forwarder.lease_seconds)
        self._due = began + self._lease.total_seconds() / RENEWALS_PER_LEASE

    def renew_if_due(self) -> None:
        """Renew the claim if it is time. Call this before each piece of a data set.

        Raises:
            ClaimLostError: the claim no longer holds (another process has it, or PostgreSQL lost it).
        """
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._lease.total_seconds() / RENEWALS_PER_LEASE
        held = True
        # If PostgreSQL is away the send goes on. At worst the peer gets it twice, which is harmless (G4).
        with suppress(DatabaseError), self._database.statement() as session:
            held = self._renew(session, self._lease)
        if not held:
            raise ClaimLostError(
                "its claim no longer holds (another process has it, or PostgreSQL lost it): "
                "the attempt was broken off"
            )


class Renewal:
    """The claim of one attempt at a delivery. `began` is a monotonic time before the claim was made.

    `sending` is the turn that the attempt holds at the PACS; progress is noted in it as well.
    """

    def __init__(
        self, context: ForwardContext, claim: DeliveryClaim, *, began: float, sending: Sending | None
    ) -> None:
        self._associations = context.associations
        self._destination = claim.destination
        self._sending = sending
        self._lease = Lease(
            context, lambda session, lease: deliveries.renew(session, claim, lease=lease), began=began
        )

    def note_progress(self) -> None:
        """Note that the peer accepts bytes, and renew the claim if it is time.

        Raises:
            ClaimLostError: the claim no longer holds.
        """
        self._associations.note_progress(self._destination)
        if self._sending is not None:
            self._sending.note_progress()
        self._lease.renew_if_due()

    def note_answer(self) -> None:
        """Note that the peer has answered, to measure how long its answers usually take."""
        if self._sending is not None:
            self._sending.note_answer()
