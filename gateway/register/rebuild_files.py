"""List the files of the spool for a rebuild, and tell which of them a receiver still has to register.

rebuild.py examines what is listed here, and registers it. The lists are those of one moment: another process
may move a file afterwards. Then it is found in its new place, or by the next run.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

from gateway.domain.instance import Place
from gateway.register.unregistered import REFUSED
from gateway.spool.flush import failure
from gateway.spool.partial import PARTIAL, SUFFIX, lock_folder
from gateway.spool.spool import Spool

HELD_SECONDS = 0.5
"""How long the links of receivers are not listed again. A file that one of them finishes meanwhile is
registered by both, which changes nothing."""

_ORDER = (Place.SENT, Place.FAILED, Place.QUEUED, Place.INCOMING)
"""A file in two places, after a crash in a move: what is owed is registered last, and decides."""


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


class HeldFiles:
    """The files that are left to living receivers, or that are set aside in partial/refused/."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._inodes: set[tuple[int, int]] = set()
        self._until = 0.0

    def __contains__(self, path: Path) -> bool:
        """Tell whether a living receiver, or partial/refused/, has a link to the file."""
        with suppress(FileNotFoundError):
            status = path.stat()
            if status.st_nlink == 1:
                return False
            inode = (status.st_dev, status.st_ino)
            if inode not in self._inodes and self._until < monotonic():
                self._inodes = _held_inodes(self._spool)
                self._until = monotonic() + HELD_SECONDS
            return inode in self._inodes
        return False


def _held_inodes(spool: Spool) -> set[tuple[int, int]]:
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
