"""orphaned/: files that no row knows, kept for the retention; one that a row turns out to own goes back.

A row may come after its file was moved here: a COMMIT that waited longer than the grace, for a standby, or on
a machine that was frozen. Its instance is owed, so its file is found here by readers, brought back by
reconcile, and never deleted by purge.

If the process dies between the link and the unlink of a move, the file has a name here and one in its place;
purge removes the one here.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from gateway import log
from gateway.kept import holds
from gateway.log import Stage
from gateway.spool import ORPHANED, make_folder
from gateway.store import sweeping
from gateway.store.instances import Stored
from gateway.sweep.verbs import BATCH, Counts, Refusals, Sweeping, age_seconds

AGAIN = "~"
"""Stands in no UID: before what is added to a name that is taken here."""


def set_aside(context: Sweeping, path: Path) -> int:
    """Move a file here, if its receiver is gone: a living one holds a second link. 1 where that was done."""
    if path.stat().st_nlink > 1:
        return 0
    if context.dry:
        return 1
    target = context.spool.root / ORPHANED / path.parent.name / path.name
    make_folder(target.parent)
    if target.exists():
        target = target.with_name(f"{target.stem}{AGAIN}{time.time_ns()}.dcm")
    path.rename(target)
    log.write(
        Stage.SWEEP,
        "orphaned",
        level="warning",
        sop_instance_uid=path.stem,
        study_instance_uid=path.parent.name,
    )
    return 1


def bring_back(context: Sweeping, owner: Stored) -> bool:
    """Where this instance's own bytes are here, they are in its place again."""
    folder = context.spool.root / ORPHANED / owner.study_instance_uid
    plain = folder / owner.file_name
    for path in (plain, *folder.glob(f"{plain.stem}{AGAIN}*.dcm")):
        if is_needed(context, path, owner):
            return take_place(context, path, owner)
    return False


def is_needed(context: Sweeping, path: Path, owner: Stored) -> bool:
    """Tell whether `path` holds the bytes of its owner, and what stands where the row says does not."""
    place = context.spool.path(owner.place, owner.study_instance_uid, owner.file_name)
    return holds(path, owner.data_set_size, owner.sha256) and not holds(
        place, owner.data_set_size, owner.sha256
    )


def take_place(context: Sweeping, path: Path, owner: Stored) -> bool:
    """`path`, which holds the bytes of `owner`, stands where the row says; what stood there is here."""
    place = context.spool.path(owner.place, owner.study_instance_uid, owner.file_name)
    if place.exists() and not set_aside(context, place):
        return False  # another version, being received under that name just now
    if context.dry:
        return True
    taken = context.spool.put(path, place)
    if taken and path.parent.parent.name == ORPHANED:
        log.write(
            Stage.SWEEP,
            "brought_back",
            level="warning",
            sop_instance_uid=owner.sop_instance_uid,
            study_instance_uid=owner.study_instance_uid,
            instance_id=owner.instance_id,
        )
    return taken


def empty(context: Sweeping, refusals: Refusals) -> Counts:
    """Nothing is here for longer than the retention; what a row owns is in its place."""
    counts = {"orphans_purged": 0, "orphans_returned": 0}
    old = _older_than_retention(context, refusals)
    while batch := list(islice(old, BATCH)):
        for path, owner in owners(context, batch):
            with refusals.each(path):
                # Asked now, and not when it was moved here: the row may have come since.
                if owner is not None and is_needed(context, path, owner):
                    counts["orphans_returned"] += take_place(context, path, owner)
                    continue
                if not context.dry:
                    path.unlink()
                counts["orphans_purged"] += 1
    return counts


def owners(context: Sweeping, paths: Iterable[Path]) -> list[tuple[Path, Stored | None]]:
    """Each file with the instance that owns its name, where a row knows it."""
    named = [(path, (path.parent.name, f"{path.stem.partition(AGAIN)[0]}{path.suffix}")) for path in paths]
    with context.database.statement() as session:
        known = sweeping.owners_of(session, [name for _, name in named])
    return [(path, known.get(name)) for path, name in named]


def _older_than_retention(context: Sweeping, refusals: Refusals) -> Iterator[Path]:
    retention = context.retention.total_seconds()
    for study in refusals.folders(context.spool.root / ORPHANED):
        yield from (path for path in refusals.files(study) if age_seconds(path) > retention)
