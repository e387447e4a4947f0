"""Walk over the files of the spool in a fixed order, from any position.

The order is that of the places, then of the names of studies and files. A position is `place/study/file`, or
`place/study` after the last file of a study. Whatever is before it was looked at. A study or file that comes
later under a smaller name is looked at in the next pass.

A folder is listed whole, because no file system lists a folder from a name on.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.database.tables.instances import StoredInstance
from gateway.sweep.context import BATCH, DiskErrors, SweepContext, age_seconds
from gateway.sweep.slices import START, Slice

FOLDERS_IN_STEP = 100
"""A step ends after this many folders, even if they have few files: to list a folder takes as long as to
examine some ten files."""


FileAndOwner = tuple[Path, StoredInstance | None]
"""A file, and the instance whose row has its name; None if there is no such row."""


class WalkStep(NamedTuple):
    """The old files among some that follow each other; the walk came to `position`."""

    old: list[Path]
    looked_at: int
    position: str


def studies(
    root: Path, places: Sequence[str], *, after: str, disk_errors: DiskErrors
) -> Iterator[tuple[str, str]]:
    """Yield place and study of each folder after a position; also the folder that the position is in."""
    place_after, study_after, is_in_study = _parsed(after)
    first = places.index(place_after) if place_after in places else 0
    for place in places[first:]:
        names = disk_errors.names(root / place, of_folders=True)
        if place == place_after:
            names = [name for name in names if name > study_after or (is_in_study and name == study_after)]
        heapq.heapify(names)  # faster than to sort them all, where a slice ends after some of them
        while names:
            yield place, heapq.heappop(names)


def old_files(
    root: Path, places: Sequence[str], *, after: str, grace_seconds: float, disk_errors: DiskErrors
) -> Iterator[WalkStep]:
    """Yield the files that are older than the grace and follow a position, at most BATCH in a step."""
    old: list[Path] = []
    looked_at = folders = 0
    for place, study in studies(root, places, after=after, disk_errors=disk_errors):
        folder = root / place / study
        for name in sorted(disk_errors.names(folder, of_folders=False)):
            position = f"{place}/{study}/{name}"
            if position <= after and after.startswith(f"{place}/{study}/"):
                continue
            looked_at += 1
            if age_seconds(f"{folder}/{name}") > grace_seconds:
                old.append(folder / name)
            if looked_at >= BATCH:
                yield WalkStep(old, looked_at, position)
                old, looked_at, folders = [], 0, 0
        folders += 1
        if folders >= FOLDERS_IN_STEP:
            yield WalkStep(old, looked_at, f"{place}/{study}")
            old, looked_at, folders = [], 0, 0
    if folders:
        yield WalkStep(old, looked_at, f"{place}/{study}")


def old_files_of_slice(
    context: SweepContext,
    piece: Slice,
    places: Sequence[str],
    *,
    grace_seconds: float,
    disk_errors: DiskErrors,
    find: Callable[[SweepContext, list[Path]], list[FileAndOwner]],
) -> Iterator[FileAndOwner]:
    """Yield what `find` returns for the old files, until the slice is over.

    `find` returns some of its files in the same order, each with its owner. The caller repairs a yielded file
    before it asks for the next one; the slice may end after each.
    """
    steps = old_files(
        context.spool.root,
        places,
        after=piece.position,
        grace_seconds=grace_seconds,
        disk_errors=disk_errors,
    )
    for step in steps:
        piece.looked_at(step.looked_at)
        for path, owner in find(context, step.old):
            piece.has_work()
            yield path, owner
            if piece.is_over:
                piece.position = path.relative_to(context.spool.root).as_posix()
                return
        piece.position = step.position
        if piece.is_over:
            return
    piece.position = START


def _parsed(position: str) -> tuple[str, str, bool]:
    """Return place, study, and whether the position is at a file of the study."""
    place, _, rest = position.partition("/")
    study, slash, _ = rest.partition("/")
    return place, study, bool(slash)
