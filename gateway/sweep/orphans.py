"""orphaned/: files that no row knows, kept for the retention; one that a row turns out to own goes back.

A row may come after its file was moved here: a COMMIT that waited longer than the grace, for a standby, or on
a machine that was frozen. Its instance is owed, so its file is found here by readers, brought back by
reconcile, and never deleted by purge.

If the process dies between the link and the unlink of a move, the file has a name here and one in its place;
the next move of it ends that one, and purge removes the one here.

damaged/: files with the name of an instance that is owed, and other bytes than were received, where the right
bytes are nowhere. They may be all that is left of it, so no verb removes them; `mini-pacs status` tells of
them. Where one turns out to hold the right bytes after all, reconcile brings it back.
"""

import os
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from gateway import log
from gateway.database.tables import sweeps
from gateway.database.tables.instances import StoredInstance
from gateway.domain.instance import Place
from gateway.log import Stage
from gateway.spool.flush import flush_directory, make_folder
from gateway.spool.part10_file import holds
from gateway.spool.places import DAMAGED, ORPHANED
from gateway.sweep.context import BATCH, Counts, Refusals, SweepContext, age_seconds

AGAIN = "~"
"""Stands in no UID: before what is added to a name that is taken here."""


def set_aside(context: SweepContext, path: Path, owner: StoredInstance | None, *, lost: bool = False) -> int:
    """Move a file here, or to damaged/ where it may be all that is left of its owner; 1 where that was done.

    A file that has a second link stays: its receiver lives.
    """
    folder = context.spool.root / (DAMAGED if lost else ORPHANED) / path.parent.name
    named = [other for other in folder.glob(f"{path.stem}*.dcm") if other.samefile(path)]
    if path.stat().st_nlink > 1 and not named:
        return 0
    if context.dry:
        return 1
    target = named[0] if named else _free_name(folder / path.name)
    if not named:
        make_folder(folder)
        os.link(path, target)  # unlike rename, never replaces a file
    if lost:
        for directory in (folder, folder.parent, folder.parent.parent):
            flush_directory(directory)  # survives a power cut: the new name, before the old one goes
    path.unlink()
    log.write(
        Stage.SWEEP,
        "damaged" if lost else "orphaned",
        level="error" if lost else "warning",
        sop_instance_uid=path.stem,
        study_instance_uid=path.parent.name,
        instance_id=None if owner is None else owner.instance_id,
        error=f"{path} holds other bytes than were received; kept as {target}" if lost else None,
    )
    return 1


def _free_name(path: Path) -> Path:
    return path.with_name(f"{path.stem}{AGAIN}{time.time_ns()}.dcm") if path.exists() else path


def is_lost(context: SweepContext, path: Path, owner: StoredInstance) -> bool:
    """Tell whether `owner` is still owed, and no file but `path`, which is not right, may hold its bytes."""
    with context.database.statement() as session:
        if not sweeps.is_owed(session, owner.instance_id):
            return False
    others = (other for other in _everywhere(context, owner) if other != path)
    return not any(holds(other, owner.data_set_size, owner.sha256) for other in others)


def _everywhere(context: SweepContext, owner: StoredInstance) -> Iterator[Path]:
    """Each file that bears the name of `owner`, those that were set aside included."""
    for place in Place:
        yield context.spool.path(place, owner.study_instance_uid, owner.file_name)
    yield from _set_aside(context, owner)


def _set_aside(context: SweepContext, owner: StoredInstance) -> Iterator[Path]:
    for name in (ORPHANED, DAMAGED):
        folder = context.spool.root / name / owner.study_instance_uid
        plain = folder / owner.file_name
        yield plain
        yield from folder.glob(f"{plain.stem}{AGAIN}*.dcm")


def bring_back(context: SweepContext, owner: StoredInstance) -> bool:
    """Where this instance's own bytes were set aside, they are in its place again."""
    for path in _set_aside(context, owner):
        if is_needed(context, path, owner):
            return take_place(context, path, owner)
    return False


def is_needed(context: SweepContext, path: Path, owner: StoredInstance) -> bool:
    """Tell whether `path` holds the bytes of its owner, and what stands where the row says does not."""
    place = context.spool.path(owner.place, owner.study_instance_uid, owner.file_name)
    return holds(path, owner.data_set_size, owner.sha256) and not holds(
        place, owner.data_set_size, owner.sha256
    )


def take_place(context: SweepContext, path: Path, owner: StoredInstance) -> bool:
    """`path`, which holds the bytes of `owner`, stands where the row says; what stood there is here."""
    place = context.spool.path(owner.place, owner.study_instance_uid, owner.file_name)
    if place.exists() and not set_aside(context, place, owner):
        return False  # another version, being received under that name just now
    if context.dry:
        return True
    taken = context.spool.put(path, place)
    if taken and path.parent.parent.name in {ORPHANED, DAMAGED}:
        log.write(
            Stage.SWEEP,
            "brought_back",
            level="warning",
            sop_instance_uid=owner.sop_instance_uid,
            study_instance_uid=owner.study_instance_uid,
            instance_id=owner.instance_id,
        )
    return taken


def empty(context: SweepContext, refusals: Refusals) -> Counts:
    """Nothing is here for longer than the retention; what a row owns is in its place, or in damaged/."""
    counts = {"orphans_purged": 0, "orphans_returned": 0, "damaged": 0}
    old = _older_than_retention(context, refusals)
    while batch := list(islice(old, BATCH)):
        for path, owner in owners(context, batch):
            with refusals.each(path):
                # Asked now, and not when it was moved here: the row may have come since.
                if owner is not None and is_needed(context, path, owner):
                    counts["orphans_returned"] += take_place(context, path, owner)
                elif owner is not None and is_lost(context, path, owner):
                    counts["damaged"] += set_aside(context, path, owner, lost=True)
                else:
                    if not context.dry:
                        path.unlink()
                    counts["orphans_purged"] += 1
    return counts


def owners(context: SweepContext, paths: Iterable[Path]) -> list[tuple[Path, StoredInstance | None]]:
    """Each file with the instance that owns its name, where a row knows it."""
    named = [(path, (path.parent.name, f"{path.stem.partition(AGAIN)[0]}{path.suffix}")) for path in paths]
    with context.database.statement() as session:
        known = sweeps.owners_of(session, [name for _, name in named])
    return [(path, known.get(name)) for path, name in named]


def _older_than_retention(context: SweepContext, refusals: Refusals) -> Iterator[Path]:
    retention = context.retention.total_seconds()
    for study in refusals.folders(context.spool.root / ORPHANED):
        yield from (path for path in refusals.files(study) if age_seconds(path) > retention)
