"""Find the receptions that a dead or frozen process left unregistered.

    links of a dead receiver            its folder in partial/ is not locked
    old links of a living receiver      older than OLD_LINK_SECONDS: it is frozen, or behind
    links that PostgreSQL refused       in partial/refused/
    files in incoming/ without a row    a power cut took the link: the sweep finds them (reconcile)

A file is registered only if its envelope is finished and its bytes have the digest of the envelope. It is
flushed first, because a file in the page cache may not be on the disk.

    finished envelope, right digest     registered; if it has no final name, it gets one
    finished envelope, wrong digest     torn by a power cut, or damaged: goes to damaged/ for good
    no finished envelope                never acknowledged: its link is removed; reconcile moves a final name
                                        without a row to orphaned/

If the process dies
    at any line   the link remains, and the next process comes here again
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from gateway import log
from gateway.domain.instance import file_names
from gateway.errors import FileMissingError, SpoolError
from gateway.log import Stage
from gateway.register.unregistered import REFUSED, Unregistered, final_name
from gateway.spool.envelope import Envelope, read_envelope
from gateway.spool.flush import failure, flush_directory, make_folder
from gateway.spool.part10_file import Part10File
from gateway.spool.partial import LOCK, PARTIAL, SUFFIX, lock_folder
from gateway.spool.places import DAMAGED
from gateway.spool.spool import Spool

OLD_LINK_SECONDS = 10.0
LOGGED = 10
"""How many files that the disk refuses are logged one by one."""
MAX_OF_A_LIVING_ONE = 2000
"""How many links of a living receiver are taken at once: it may be registering them itself."""


class Recovery:
    """Yields what is to be registered for other processes."""

    def __init__(self, spool: Spool, *, grace_seconds: float) -> None:
        self._spool = spool
        self.grace_seconds = grace_seconds
        self.parts_removed = 0
        self.refused = 0
        """How many files and folders the disk refused."""

    def of_the_dead(self) -> Iterator[Unregistered]:
        """Yield the receptions of dead receivers, and remove the folders that have no link any more.

        A folder whose last receptions are still being registered stays for the next pass.
        """
        for folder in self._locked_folders():
            yield from self._of_folder(folder, dead=True)
            if not any(folder.glob(f"*{SUFFIX}")):
                # Remove it before the lock is released. A receiver that opens it now finds it removed, and
                # makes another.
                shutil.rmtree(folder, ignore_errors=True)

    def _locked_folders(self) -> Iterator[Path]:
        """Yield the folders of dead receivers; each is locked until the next one is asked for."""
        for folder in _folders(self._spool.root / PARTIAL):
            if folder.name == REFUSED or not self._may_be_dead(folder):
                continue
            try:
                lock = lock_folder(folder)
            except FileNotFoundError:
                continue  # another process has just removed it
            except OSError as error:
                self._log_left(failure("lock", folder, error))
                continue
            if lock is None:
                continue
            try:
                yield folder
            finally:
                os.close(lock)

    def of_the_frozen(self) -> Iterator[Unregistered]:
        """Yield the old links of living receivers. Such a receiver may register them at the same time."""
        for folder in _folders(self._spool.root / PARTIAL):
            if folder.name != REFUSED:
                yield from islice(self._of_folder(folder, dead=False), MAX_OF_A_LIVING_ONE)

    def of_the_refused(self) -> Iterator[Unregistered]:
        """Yield the receptions that PostgreSQL refused before."""
        yield from self._of_folder(self._spool.root / PARTIAL / REFUSED, dead=True)

    def _may_be_dead(self, folder: Path) -> bool:
        """Tell whether a folder without a lock is old enough: a receiver may be creating it now."""
        if (folder / LOCK).exists():
            return True
        with suppress(OSError):
            return time.time() - folder.stat().st_ctime > self.grace_seconds
        return False

    def _of_folder(self, folder: Path, *, dead: bool) -> Iterator[Unregistered]:
        """Yield the receptions of a folder. A file that the disk refuses is logged, and stays."""
        for link in sorted(folder.glob(f"*{SUFFIX}")):
            try:
                if not dead and time.time() - link.stat().st_ctime < OLD_LINK_SECONDS:
                    continue
                one = self.examine(link, may_be_written=not dead)
            except (FileMissingError, FileNotFoundError):
                continue  # another process has registered it
            except SpoolError as error:
                self._log_left(error)
                continue
            except OSError as error:
                self._log_left(failure("examine", link, error))
                continue
            if one is not None:
                yield one

    def _log_left(self, error: SpoolError) -> None:
        self.refused += 1
        if self.refused <= LOGGED:
            log.write(Stage.QUEUE, "not_recovered", level="error", error=str(error))

    def count_left(self) -> tuple[int, int]:
        """Return how many receptions dead receivers left, and how many files that were never acknowledged."""
        receptions = files = 0
        for folder in self._locked_folders():
            for link in folder.glob(f"*{SUFFIX}"):
                with suppress(SpoolError):
                    if read_envelope(link) is None:
                        files += 1
                    else:
                        receptions += 1
        return receptions, files

    def examine(
        self, link: Path, *, may_be_written: bool = False, is_durable: bool = False
    ) -> Unregistered | None:
        """Return the reception of a link if it is to be registered, and make its file durable.

        `may_be_written`: its receiver lives, so a file without a finished envelope or a final name stays.
        `is_durable`: this process has flushed it, so it is neither verified nor flushed again.

        Raises:
            FileMissingError: the link is gone, because another process has registered it.
            SpoolError: the file cannot be read or flushed.
            OSError: the same.
        """
        envelope = read_envelope(link)
        if envelope is None:
            if not may_be_written:
                link.unlink(missing_ok=True)
                self.parts_removed += 1
            return None
        path = final_name(self._spool, link, envelope)
        if path is None and may_be_written:
            return None
        if is_durable and path is not None:
            return Unregistered(envelope, str(path), str(link))
        with Part10File(link) as file:  # raises if the link is gone: then its file is not damaged
            is_intact = file.holds(envelope.data_set_size, envelope.sha256.hex())
        if not is_intact:
            if not may_be_written:
                set_damaged_aside(self._spool, link, path, envelope)
            return None
        if path is None:
            path = self._spool.link(
                link,
                envelope.study_instance_uid,
                file_names(envelope.sop_instance_uid, envelope.sha256.hex()),
            )
        flush_file(path)
        return Unregistered(envelope, str(path), str(link))


def flush_file(path: Path) -> None:
    """Flush a file and its folders: they may be in the page cache only.

    Raises:
        SpoolError: it cannot be flushed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)  # survives a power cut: the bytes
        finally:
            os.close(descriptor)
        for directory in (path.parent, path.parent.parent):
            flush_directory(directory)  # survives a power cut: the name, and the folder of the study
    except OSError as error:
        raise failure("fsync", path, error) from error


def set_damaged_aside(spool: Spool, link: Path | None, path: Path | None, envelope: Envelope) -> None:
    """Move a file whose bytes are not those of its envelope to damaged/, which nothing empties."""
    folder = spool.root / DAMAGED / envelope.study_instance_uid
    name = f"{envelope.sop_instance_uid}~{envelope.reception_id.hex}.dcm"
    source = link if path is None else path
    assert source is not None, "a file has a link or a final name"
    try:
        make_folder(folder)
        with suppress(FileExistsError):
            os.link(source, folder / name)
        for directory in (folder, folder.parent, folder.parent.parent):
            flush_directory(directory)  # survives a power cut: the new name, before the old ones are removed
        for old in (path, link):
            if old is not None:
                old.unlink(missing_ok=True)
    except OSError as error:
        raise failure("set aside", source, error) from error
    log.write(
        Stage.SWEEP,
        "damaged",
        level="error",
        sop_instance_uid=envelope.sop_instance_uid,
        study_instance_uid=envelope.study_instance_uid,
        calling_ae_title=envelope.calling_ae_title,
        error=f"{source} does not hold the bytes of its envelope; kept as {folder / name}",
    )


def _folders(partial: Path) -> list[Path]:
    with suppress(FileNotFoundError), os.scandir(partial) as entries:
        return sorted(Path(entry) for entry in entries if entry.is_dir())
    return []


def of_file(spool: Spool, path: Path, *, has_row: bool) -> Unregistered | None:
    """Return the reception of a file in incoming/ that has neither a link nor a row.

    Return None if it was never acknowledged: its envelope is missing or unfinished. `has_row`: a row has its
    name, so a file with other bytes than its envelope says is left to the rules of reconcile.

    Raises:
        SpoolError: the file cannot be read or flushed.
    """
    envelope = read_envelope(path)
    if envelope is None:
        return None
    with Part10File(path) as file:
        is_intact = file.holds(envelope.data_set_size, envelope.sha256.hex())
    if not is_intact:
        if not has_row:
            set_damaged_aside(spool, None, path, envelope)
        return None
    flush_file(path)
    return Unregistered(envelope, str(path), None)
