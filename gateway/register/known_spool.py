"""Check in the transaction of a registration that the database belongs to the spool.

A database that was restored, or belongs to another spool, gets no rows. `reset-db` begins a new epoch; what
was received before it is not registered.
"""

from collections.abc import Sequence

from gateway.database.pool import Database
from gateway.register.received_file import remove_link
from gateway.register.registration_log import log_of_older_epoch
from gateway.register.unregistered import Unregistered
from gateway.spool.identity import SpoolIdentity


class KnownSpool:
    """The pair of a spool and a database; without an identity nothing is checked."""

    def __init__(self, identity: SpoolIdentity | None, database: Database) -> None:
        self._identity = identity
        self._database = database

    def requirement(self, batch: Sequence[Unregistered]) -> str:
        """Return the statement that fails unless the database belongs to the spool.

        Raises:
            UnknownSpoolError: the database does not belong to the spool.
        """
        if self._identity is None:
            return ""
        oldest = min(one.envelope.epoch for one in batch)
        requirement = self._identity.requirement(oldest)
        if requirement is None:
            self.check()
            requirement = self._identity.requirement(oldest)  # another process has paired them just now
        return requirement or ""

    def check(self) -> None:
        """Return if spool and database are a known pair.

        Raises:
            UnknownSpoolError: it says what is wrong.
        """
        if self._identity is not None:
            with self._database.statement(guarded=False) as session:
                self._identity.check(session)

    def leave_older_epochs(self, batch: Sequence[Unregistered]) -> None:
        """Leave what was received before a reset-db: its link goes; the sweep moves its file to orphaned/."""
        if self._identity is None:
            return
        epoch = self._identity.epoch
        for one in batch:
            if not one.is_done and one.envelope.epoch < epoch:
                remove_link(one)
                log_of_older_epoch(one, epoch)
