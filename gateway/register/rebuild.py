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

rebuild_files.py lists the files, rebuild_batch.py registers a batch of them in one transaction.

If the process dies
    at any line   what was committed is found registered by the next run; the pair stays unknown until a run
                  has ended
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.tables import rebuilds
from gateway.domain.instance import Kind, Place
from gateway.errors import FileMissingError, SpoolError
from gateway.register.caller_origin import CallerOrigins
from gateway.register.rebuild_batch import RebuildBatches, RebuildCounts
from gateway.register.rebuild_files import HeldFiles, all_files
from gateway.register.recovery import set_damaged_aside
from gateway.register.registration import MAX_BATCH
from gateway.register.stored_file import Defect, StoredFile, examine
from gateway.spool.envelope import read_envelope
from gateway.spool.spool import Spool

FIRST_ANALYZE = 500
"""After so many files PostgreSQL counts its rows, and again after four times as many."""


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
        self._epoch = epoch
        self._progress = progress
        self._origins = CallerOrigins(configuration.forwarder)
        self._results: list[tuple[Path, Place]] = []
        self._held = HeldFiles(spool)
        self.counts = RebuildCounts()
        self._batches = RebuildBatches(
            configuration, database, spool, self._origins, self.counts, was_unknown=was_unknown
        )

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
                self._batches.register(self._whole(readers, chunk))
                self._progress(len(chunk))
                if self.counts.files >= analyze_at:
                    analyze_at *= 4
                    with self._database.statement() as session:
                        rebuilds.analyze(session)
            found = iter(self._results)
            while chunk := list(islice(found, MAX_BATCH)):
                examined = self._examined(readers, chunk)
                self._batches.register([one for one in examined if isinstance(one, StoredFile)])
        return self.counts

    def _whole(self, readers: ThreadPoolExecutor, chunk: list[tuple[Path, Place]]) -> list[StoredFile]:
        """Return the originals among the files of `chunk`, and remember the results for later."""
        originals = []
        self.counts.files += len(chunk)
        for (path, place), one in zip(chunk, self._examined(readers, chunk), strict=True):
            if not isinstance(one, StoredFile):
                self._count_defect(path, one)
            elif one.has_envelope and one.envelope.epoch < self._epoch:
                self.counts.older_epoch += 1
            elif path in self._held:
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
                self.counts.skip_unreadable(path)
            case Defect.DAMAGED:
                self.counts.damaged += 1
                envelope = read_envelope(path)
                if envelope is not None:
                    set_damaged_aside(self._spool, None, path, envelope)
            case FileMissingError():
                self.counts.files -= 1  # found again in its new place, or by the next run
            case SpoolError():
                self.counts.refuse(str(defect))
