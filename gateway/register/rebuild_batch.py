"""Register a batch of files in one transaction, for a rebuild, and count what was found.

The rows are those of a reception (registration.py). The deliveries of a new row get the state that the place
of its file shows; rebuild.py has the table. It also finds the files.

If the process dies
    before the commit   nothing of the batch is registered; the next run registers it
    after it            the next run finds the rows
    in `_renamed`       the file has two names; its reception is registered once, under one of them
"""

from dataclasses import dataclass
from pathlib import Path

from gateway import log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import instances, rebuilds, sweeps
from gateway.database.tables.instances import ReceptionVerdict, RegisteredInstance
from gateway.domain.delivery import State
from gateway.domain.instance import Place, file_names
from gateway.errors import DatabaseRefusedError
from gateway.log import Stage
from gateway.register import results
from gateway.register.caller_origin import CallerOrigins
from gateway.register.kept_decisions import keep_decisions
from gateway.register.reception_row import lock_order, received_of
from gateway.register.repeat import NEW
from gateway.register.stored_file import StoredFile
from gateway.register.unregistered import Unregistered
from gateway.spool.flush import failure, flush_directory
from gateway.spool.spool import Spool

WAS_DEAD = "was dead when the database was lost"
OWED_AGAIN = "owed again: the database was lost"
COLLISIONS = 3
EXAMPLES = 10
"""How many files are logged one by one; all are counted."""


@dataclass(slots=True)
class RebuildCounts:
    """What a rebuild found; each file is counted once in `files`."""

    files: int = 0
    known: int = 0  # the database had its row
    owed: int = 0  # registered now: owed
    delivered: int = 0  # registered now: delivered
    dead: int = 0  # registered now: dead
    repeats: int = 0  # another file of a registered instance
    owed_again: int = 0  # known instances that are owed again
    damaged: int = 0  # moved to damaged/
    unfinished: int = 0  # never acknowledged
    unreadable: int = 0  # no instance that the gateway wrote
    older_epoch: int = 0  # from before a reset-db
    left_to_receivers: int = 0
    refused: int = 0  # PostgreSQL or the disk refused it

    def refuse(self, error: str) -> None:
        """Count a file that PostgreSQL or the disk refused, and log it if it is one of the first."""
        self.refused += 1
        _log_example(error, self.refused)

    def skip_unreadable(self, path: Path) -> None:
        """Count a file that is no instance of the gateway, and log it if it is one of the first."""
        self.unreadable += 1
        _log_example(f"{path} is no instance that the gateway wrote", self.unreadable)


def _log_example(error: str, number: int) -> None:
    if number <= EXAMPLES:
        log.write(Stage.DB, "not_rebuilt", level="error", error=error)


class _Outcome:
    """What one transaction wrote; it is counted after the commit."""

    def __init__(self) -> None:
        self.known: list[tuple[StoredFile, int]] = []
        self.repeats: list[tuple[StoredFile, int]] = []
        self.taken: list[StoredFile] = []
        self.stored: dict[Place, list[int]] = {place: [] for place in Place}
        self.owed_again: set[int] = set()


class RebuildBatches:
    """Registers batches of files, and counts them in `counts`.

    With `was_unknown`, files in incoming/ and queued/ are owed although their rows are settled.
    """

    def __init__(
        self,
        configuration: Configuration,
        database: Database,
        spool: Spool,
        origins: CallerOrigins,
        counts: RebuildCounts,
        *,
        was_unknown: bool,
    ) -> None:
        self._configuration = configuration
        self._database = database
        self._spool = spool
        self._origins = origins
        self._counts = counts
        self._was_unknown = was_unknown
        rules = configuration.forwarder.rules
        self._rule_texts = {rules.digest: rules.text}

    def register(self, batch: list[StoredFile]) -> None:
        """Register a batch; if PostgreSQL refuses it, each file alone.

        Raises:
            DatabaseError: PostgreSQL failed; what was committed before is found registered by the next run.
        """
        batch.sort(key=lambda one: lock_order(one.envelope))
        if not batch:
            return
        try:
            taken = self._commit(batch)
        except DatabaseRefusedError as error:
            if len(batch) > 1:
                for one in batch:
                    self.register([one])
                return
            self._counts.refuse(f"{batch[0].path}: {error}")
            return
        self.register([self._renamed(one) for one in taken])

    def _commit(self, batch: list[StoredFile]) -> list[StoredFile]:
        """Register in one transaction; return those whose names are taken by other versions."""
        for left in range(COLLISIONS - 1, -1, -1):
            outcome = _Outcome()
            try:
                with self._database.transaction() as session:
                    self._write(session, batch, outcome)
            except DatabaseRefusedError as error:
                if not error.is_collision or not left:
                    raise
            else:
                self._count(outcome)
                receptions = [Unregistered(one.envelope, str(one.path), None) for one in batch]
                results.correlate_again(self._database, receptions, self._spool, self._origins)
                return outcome.taken
        raise AssertionError("unreachable")

    def _write(self, session: Session, batch: list[StoredFile], outcome: _Outcome) -> None:
        owners = sweeps.owners_of(session, [one.name for one in batch])
        new = []
        for one in batch:
            owner = owners.get(one.name)
            if owner is not None and owner.sha256 == one.envelope.sha256.hex():
                outcome.known.append((one, owner.instance_id))
            else:
                new.append(one)
        for one, registered in zip(new, self._rows(session, new), strict=True):
            if registered.verdict is ReceptionVerdict.NAME_TAKEN:
                outcome.taken.append(one)
            elif registered.verdict in NEW:
                outcome.stored[one.place].append(registered.instance_id)
            else:
                outcome.repeats.append((one, registered.instance_id))
        self._settle(session, outcome)

    def _settle(self, session: Session, outcome: _Outcome) -> None:
        """Give the deliveries the state that the places of the files show."""
        stored = outcome.stored
        if stored[Place.SENT]:
            rebuilds.settle(session, stored[Place.SENT], State.DELIVERED, None)
        if stored[Place.FAILED]:
            rebuilds.settle(session, stored[Place.FAILED], State.DEAD, WAS_DEAD)
        if stored[Place.QUEUED]:
            rebuilds.note_reason(session, stored[Place.QUEUED], OWED_AGAIN)
        if self._was_unknown:
            debts = {
                instance_id
                for one, instance_id in (*outcome.known, *outcome.repeats)
                if one.place in {Place.INCOMING, Place.QUEUED}
            }
            if debts:
                outcome.owed_again = rebuilds.owe_again(session, sorted(debts), OWED_AGAIN)

    def _rows(self, session: Session, new: list[StoredFile]) -> list[RegisteredInstance]:
        window = self._configuration.edge.duplicate_window
        targets = self._configuration.forwarder.targets
        receptions = [Unregistered(one.envelope, str(one.path), None) for one in new]
        if not receptions:
            return []
        if receptions[0].is_original:
            found = instances.register_many(
                session, [received_of(one, targets) for one in receptions], window=window
            )
            keep_decisions(session, receptions, found, self._rule_texts)
            return found
        found = []
        for one in receptions:
            registered = instances.register(session, received_of(one, targets), window=window)
            keep_decisions(session, [one], [registered], self._rule_texts)
            found.append(registered)
            results.correlate_one(session, one, registered, self._origins)
        return found

    def _count(self, outcome: _Outcome) -> None:
        counts = self._counts
        counts.known += len(outcome.known)
        counts.repeats += len(outcome.repeats)
        counts.owed_again += len(outcome.owed_again)
        counts.delivered += len(outcome.stored[Place.SENT])
        counts.dead += len(outcome.stored[Place.FAILED])
        counts.owed += len(outcome.stored[Place.INCOMING]) + len(outcome.stored[Place.QUEUED])

    def _renamed(self, one: StoredFile) -> StoredFile:
        """Give a file its name with the digest: the row of another version has the plain name."""
        study = one.envelope.study_instance_uid
        names = file_names(one.envelope.sop_instance_uid, one.envelope.sha256.hex())
        target = self._spool.link(one.path, study, names[1:], place=one.place)
        try:
            flush_directory(target.parent)  # survives a power cut: the new name, before the old one goes
            one.path.unlink()
        except OSError as error:
            raise failure("rename", one.path, error) from error
        return StoredFile(target, one.place, one.envelope, one.has_envelope)
