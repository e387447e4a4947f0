"""Register every whole file of the spool again, after the database was lost or restored from a backup.

    incoming/, queued/   owed again
    failed/              dead, with the reason that it was dead before
    sent/                delivered

Rows that the database still has stay as they are. But if a file in incoming/ or queued/ has no delivery under
way, it was owed again after the backup, so it is owed again now. A destination may get an instance twice;
none misses one. Originals come before results, so that results find their sources. Versions of one UID get
their order by the time of their reception, whatever order they are registered in.

It is safe beside receivers: while the pair is unknown they receive nothing, and afterwards a reception is
registered only once. A file with a link of a living receiver is left to it. Actors and the sweep wait until
the pair is known, which is the last step.

If the process dies
    at any line   what was committed is found registered by the next run; the pair stays unknown until a run
                  has ended
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import monotonic

from gateway import log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import instances, rebuilds, sweeps
from gateway.database.tables.instances import ReceptionVerdict, RegisteredInstance
from gateway.domain.delivery import State
from gateway.domain.instance import Kind, Place, file_names
from gateway.errors import DatabaseRefusedError, FileMissingError, SpoolError
from gateway.log import Stage
from gateway.register import results
from gateway.register.caller_origin import CallerOrigins
from gateway.register.kept_decisions import keep_decisions
from gateway.register.recovery import set_damaged_aside
from gateway.register.registration import MAX_BATCH, received_of
from gateway.register.repeat import NEW
from gateway.register.stored_file import Defect, StoredFile, examine
from gateway.register.unregistered import REFUSED, Unregistered
from gateway.spool.envelope import read_envelope
from gateway.spool.flush import failure, flush_directory
from gateway.spool.partial import PARTIAL, SUFFIX, lock_folder
from gateway.spool.spool import Spool

WAS_DEAD = "was dead when the database was lost"
OWED_AGAIN = "owed again: the database was lost"
COLLISIONS = 3
FIRST_ANALYZE = 500
"""After so many files PostgreSQL counts its rows, and again after four times as many."""
HELD_SECONDS = 0.5
"""How long the links of receivers are not listed again. A file that one of them finishes meanwhile is
registered by both, which changes nothing."""
EXAMPLES = 10
"""How many files are logged one by one; all are counted."""

_ORDER = (Place.SENT, Place.FAILED, Place.QUEUED, Place.INCOMING)
"""A file in two places, after a crash in a move: what is owed is registered last, and decides."""


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


class Rebuild:
    """One run. With `was_unknown`, files in incoming/ and queued/ are owed although their rows are settled.

    `epoch`: what is of an older one is not registered; 0 registers everything.
    """

    def __init__(
        self,
        configuration: Configuration,
        database: Database,
        spool: Spool,
        *,
        was_unknown: bool,
        epoch: int,
        progress: Callable[[int], None],
    ) -> None:
        self._configuration = configuration
        self._database = database
        self._spool = spool
        self._was_unknown = was_unknown
        self._epoch = epoch
        self._progress = progress
        self._origins = CallerOrigins(configuration.forwarder)
        rules = configuration.forwarder.rules
        self._rule_texts = {rules.digest: rules.text}
        self._results: list[tuple[Path, Place]] = []
        self._held: set[tuple[int, int]] = set()
        self._held_until = 0.0
        self.counts = RebuildCounts()

    def run(self) -> RebuildCounts:
        """Register what is there; return what was found.

        Raises:
            DatabaseError: PostgreSQL failed; run it again.
        """
        self._spool.prepare()
        with ThreadPoolExecutor(os.cpu_count()) as readers:
            files = all_files(self._spool)
            analyze_at = FIRST_ANALYZE
            while chunk := list(islice(files, MAX_BATCH)):
                self._register(self._whole(readers, chunk))
                self._progress(len(chunk))
                if self.counts.files >= analyze_at:
                    analyze_at *= 4
                    with self._database.statement() as session:
                        rebuilds.analyze(session)
            found = iter(self._results)
            while chunk := list(islice(found, MAX_BATCH)):
                examined = self._examined(readers, chunk)
                self._register([one for one in examined if isinstance(one, StoredFile)])
        return self.counts

    # ---- files -----------------------------------------------------------------------------------

    def _whole(self, readers: ThreadPoolExecutor, chunk: list[tuple[Path, Place]]) -> list[StoredFile]:
        """Return the originals among the files of `chunk`, and remember the results for later."""
        originals = []
        self.counts.files += len(chunk)
        for (path, place), one in zip(chunk, self._examined(readers, chunk), strict=True):
            if not isinstance(one, StoredFile):
                self._count_defect(path, one)
            elif one.has_envelope and one.envelope.epoch < self._epoch:
                self.counts.older_epoch += 1
            elif self._is_held(path):
                self.counts.left_to_receivers += 1
            elif one.envelope.kind is Kind.RESULT:
                self._results.append((path, place))
            else:
                originals.append(one)
        return originals

    def _examined(
        self, readers: ThreadPoolExecutor, chunk: list[tuple[Path, Place]]
    ) -> list[StoredFile | Defect | SpoolError]:
        return list(readers.map(self._examine, chunk))

    def _examine(self, file: tuple[Path, Place]) -> StoredFile | Defect | SpoolError:
        try:
            return examine(*file, self._configuration, self._origins)
        except FileNotFoundError:
            return FileMissingError(f"{file[0]} was moved meanwhile")
        except SpoolError as error:
            return error

    def _count_defect(self, path: Path, defect: Defect | SpoolError) -> None:
        match defect:
            case Defect.UNFINISHED:
                self.counts.unfinished += 1
            case Defect.UNREADABLE:
                self.counts.unreadable += 1
                self._tell(f"{path} is no instance that the gateway wrote", self.counts.unreadable)
            case Defect.DAMAGED:
                self.counts.damaged += 1
                envelope = read_envelope(path)
                if envelope is not None:
                    set_damaged_aside(self._spool, None, path, envelope)
            case FileMissingError():
                self.counts.files -= 1  # found again in its new place, or by the next run
            case SpoolError():
                self.counts.refused += 1
                self._tell(str(defect), self.counts.refused)

    @staticmethod
    def _tell(error: str, number: int) -> None:
        if number <= EXAMPLES:
            log.write(Stage.DB, "not_rebuilt", level="error", error=error)

    def _is_held(self, path: Path) -> bool:
        """Tell whether a living receiver, or partial/refused/, has a link to the file."""
        with suppress(FileNotFoundError):
            status = path.stat()
            if status.st_nlink == 1:
                return False
            inode = (status.st_dev, status.st_ino)
            if inode not in self._held and self._held_until < monotonic():
                self._held = held_inodes(self._spool)
                self._held_until = monotonic() + HELD_SECONDS
            return inode in self._held
        return False

    # ---- transactions ----------------------------------------------------------------------------

    def _register(self, batch: list[StoredFile]) -> None:
        """Register a batch; if PostgreSQL refuses it, each file alone."""
        batch.sort(key=lambda one: (one.envelope.sop_instance_uid, one.envelope.received_at))
        if not batch:
            return
        try:
            taken = self._commit(batch)
        except DatabaseRefusedError as error:
            if len(batch) > 1:
                for one in batch:
                    self._register([one])
                return
            self.counts.refused += 1
            self._tell(f"{batch[0].path}: {error}", self.counts.refused)
            return
        self._register([self._renamed(one) for one in taken])

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
                receptions = [Unregistered(one.envelope, one.path, None) for one in batch]
                results.correlate_again(self._database, receptions, self._spool, self._origins)
                return outcome.taken
        raise AssertionError("unreachable")

    def _write(self, session: Session, batch: list[StoredFile], outcome: "_Outcome") -> None:
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

    def _settle(self, session: Session, outcome: "_Outcome") -> None:
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
        receptions = [Unregistered(one.envelope, one.path, None) for one in new]
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
            if registered.verdict not in {ReceptionVerdict.NAME_TAKEN, ReceptionVerdict.REGISTERED}:
                results.correlate_one(session, one, registered, self._origins)
        return found

    def _count(self, outcome: "_Outcome") -> None:
        counts = self.counts
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


class _Outcome:
    """What one transaction wrote; it is counted after the commit."""

    def __init__(self) -> None:
        self.known: list[tuple[StoredFile, int]] = []
        self.repeats: list[tuple[StoredFile, int]] = []
        self.taken: list[StoredFile] = []
        self.stored: dict[Place, list[int]] = {place: [] for place in Place}
        self.owed_again: set[int] = set()


def all_files(spool: Spool) -> Iterator[tuple[Path, Place]]:
    """Yield the files of all places, study by study; in a study by name, so versions are together."""
    studies = {entry.name for place in Place for entry in _entries(spool.root / place) if entry.is_dir()}
    for study in sorted(studies):
        found = [
            (entry.name, _ORDER.index(place), Path(entry), place)
            for place in Place
            for entry in _entries(spool.root / place / study)
            if entry.name.endswith(".dcm")
        ]
        yield from ((path, place) for _, _, path, place in sorted(found, key=lambda one: one[:2]))


def count_files(spool: Spool) -> dict[str, int]:
    """Count the files of each place."""
    counts = {place.value: 0 for place in Place}
    for _, place in all_files(spool):
        counts[place.value] += 1
    return counts


def held_inodes(spool: Spool) -> set[tuple[int, int]]:
    """Return the files to which living receivers, or partial/refused/, have links."""
    held: set[tuple[int, int]] = set()
    for folder in _entries(spool.root / PARTIAL):
        if not folder.is_dir() or (folder.name != REFUSED and not _is_locked(Path(folder))):
            continue
        for entry in _entries(Path(folder)):
            if entry.name.endswith(SUFFIX):
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    held.add((status.st_dev, status.st_ino))
    return held


def _is_locked(folder: Path) -> bool:
    try:
        lock = lock_folder(folder)
    except OSError:
        return False  # removed meanwhile
    if lock is None:
        return True
    os.close(lock)
    return False


def _entries(folder: Path) -> Iterable["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise failure("list", folder, error) from error
