"""Move files to orphaned/ and damaged/, and back to their place if a row needs them.

orphaned/   files without a row that were never acknowledged, kept for the retention. A row may still be
            committed after its file was moved here, if COMMIT took longer than the grace (a slow standby, a
            frozen machine). So readers also look here, reconcile moves such a file back, and purge does not
            delete it.
damaged/    files with the name of an undelivered instance, but other bytes than were received. No other file
            has the right bytes, and the file may be all that is left of the instance. So no verb removes it;
            `status` shows it. If a file here has the right bytes after all, reconcile moves it back.

If the process dies
    between link and unlink of a move   the file has both names; the next run completes the move, and purge
                                        removes a name that stays in orphaned/
"""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from gateway import log
from gateway.database.tables import sweeps
from gateway.database.tables.instances import StoredInstance
from gateway.domain.instance import Place
from gateway.log import Stage
from gateway.spool.flush import flush_directory, make_folder
from gateway.spool.part10_file import holds
from gateway.spool.places import DAMAGED, ORPHANED
from gateway.sweep.context import Counts, DiskErrors, SweepContext
from gateway.sweep.slices import Part, sliced
from gateway.sweep.walk import FileAndOwner, old_files_of_slice

NUMBER_MARK = "~"
"""Precedes the number that makes a taken file name unique. No UID contains it."""


def set_aside(
    context: SweepContext, path: Path, owner: StoredInstance | None, *, damaged: bool = False
) -> int:
    """Move a file to orphaned/, or to damaged/ if `damaged`; return 1 if it was moved, else 0.

    A file with a second link stays: its `.part` link shows that its receiver is still working on it.
    """
    folder = context.spool.root / (DAMAGED if damaged else ORPHANED) / path.parent.name
    named = [other for other in folder.glob(f"{path.stem}*.dcm") if other.samefile(path)]
    if path.stat().st_nlink > 1 and not named:
        return 0
    if context.dry:
        return 1
    target = named[0] if named else _free_name(folder / path.name)
    if not named:
        make_folder(folder)
        os.link(path, target)  # unlike rename, never replaces a file
    if damaged:
        for directory in (folder, folder.parent, folder.parent.parent):
            flush_directory(directory)  # the new name survives a power cut before the old one is removed
    path.unlink()
    log.write(
        Stage.SWEEP,
        "damaged" if damaged else "orphaned",
        level="error" if damaged else "warning",
        sop_instance_uid=path.stem,
        study_instance_uid=path.parent.name,
        instance_id=None if owner is None else owner.instance_id,
        error=f"{path} holds other bytes than were received; kept as {target}" if damaged else None,
    )
    return 1


def _free_name(path: Path) -> Path:
    return path.with_name(f"{path.stem}{NUMBER_MARK}{time.time_ns()}.dcm") if path.exists() else path


def is_last_trace(context: SweepContext, path: Path, owner: StoredInstance) -> bool:
    """Tell whether `owner` is undelivered and no file other than `path` holds its bytes.

    The caller has checked that `path` itself holds other bytes.
    """
    with context.database.statement() as session:
        if not sweeps.is_owed(session, owner.instance_id):
            return False
    others = (other for other in _everywhere(context, owner) if other != path)
    return not any(holds(other, owner.data_set_size, owner.sha256) for other in others)


def _everywhere(context: SweepContext, owner: StoredInstance) -> Iterator[Path]:
    """Yield each path that may be a file of `owner`, orphaned/ and damaged/ included."""
    for place in Place:
        yield context.spool.path(place, owner.study_instance_uid, owner.file_name)
    yield from _files_set_aside(context, owner)


def _files_set_aside(context: SweepContext, owner: StoredInstance) -> Iterator[Path]:
    for name in (ORPHANED, DAMAGED):
        folder = context.spool.root / name / owner.study_instance_uid
        plain = folder / owner.file_name
        yield plain
        yield from folder.glob(f"{plain.stem}{NUMBER_MARK}*.dcm")


def bring_back(context: SweepContext, owner: StoredInstance) -> bool:
    """Move the file of `owner` back if orphaned/ or damaged/ has it; tell whether it was found."""
    for path in _files_set_aside(context, owner):
        if is_needed(context, path, owner):
            return put_in_place(context, path, owner)
    return False


def is_needed(context: SweepContext, path: Path, owner: StoredInstance) -> bool:
    """Tell whether `path` holds the bytes of `owner`, and the file at its place does not."""
    place = context.spool.path(owner.place, owner.study_instance_uid, owner.file_name)
    return holds(path, owner.data_set_size, owner.sha256) and not holds(
        place, owner.data_set_size, owner.sha256
    )


def put_in_place(context: SweepContext, path: Path, owner: StoredInstance) -> bool:
    """Move `path`, which holds the bytes of `owner`, to its place; set aside another file that is there.

    Return False, with nothing moved, if the place has the right file by now, or one that must stay; the next
    run looks again.
    """
    place = context.spool.path(owner.place, owner.study_instance_uid, owner.file_name)
    if place.exists():
        if holds(place, owner.data_set_size, owner.sha256):
            return False  # an actor has settled the delivery and moves the file itself
        if not set_aside(context, place, owner):
            return False  # another version is being received under that name now
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


def purge_old(context: SweepContext, disk_errors: DiskErrors) -> Counts:
    """Delete files that are in orphaned/ for longer than the retention; move back those that a row needs."""
    counts = {"orphans_purged": 0, "orphans_returned": 0, "damaged": 0}
    with sliced(context, Part.ORPHANED_FILES) as piece:
        retention = context.retention.total_seconds()
        for path, owner in old_files_of_slice(
            context, piece, (ORPHANED,), grace_seconds=retention, disk_errors=disk_errors, find=owners
        ):
            with disk_errors.caught(path):
                # Check the owner again: its row may have been committed after the move.
                if owner is not None and is_needed(context, path, owner):
                    counts["orphans_returned"] += put_in_place(context, path, owner)
                elif owner is not None and is_last_trace(context, path, owner):
                    counts["damaged"] += set_aside(context, path, owner, damaged=True)
                else:
                    if not context.dry:
                        path.unlink()
                    counts["orphans_purged"] += 1
    return counts


def owners(context: SweepContext, paths: Iterable[Path]) -> list[FileAndOwner]:
    """Return each file with the instance whose row has its name; None if there is no such row."""
    named = [
        (path, (path.parent.name, f"{path.stem.partition(NUMBER_MARK)[0]}{path.suffix}")) for path in paths
    ]
    with context.database.statement() as session:
        known = sweeps.owners_of(session, [name for _, name in named])
    return [(path, known.get(name)) for path, name in named]
