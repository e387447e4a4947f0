"""Brings rows, messages and files back together after whatever came between them.

pending without a message      gets one
breaker without a probe        gets one
file where its row is not      goes where the row says: the row's place follows from its deliveries
file in orphaned/, row owed    goes where the row says: its commit became visible after the grace
file of other bytes, row owed  goes to damaged/ for good, where the right bytes are nowhere
file without a row             past a grace, and only where its receiver is gone, goes to orphaned/
parts of a receiver that died  are removed: their senders got no Success
row without a file             is counted and logged; its delivery dies at its next attempt, with the reason

A name is not believed: whether a file is its row's is asked of size and digest. What the disk refuses for one
file is counted and logged, and keeps nothing else from being mended.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from pathlib import Path

from gateway import log
from gateway.database.tables import destinations, instances, sweeps
from gateway.database.tables.instances import StoredInstance
from gateway.database.tables.sweeps import FileRow
from gateway.domain.instance import Place
from gateway.errors import FileMissingError
from gateway.log import Stage
from gateway.spool.partial import LOCK, PARTIAL, SUFFIX, lock_folder
from gateway.spool.places import DAMAGED, ORPHANED
from gateway.sweep import orphans
from gateway.sweep.context import BATCH, EXAMPLES, Counts, Refusals, SweepContext, age_seconds

PROBE_GRACE = timedelta(seconds=30)


def reconcile(context: SweepContext) -> Counts:
    """Rows, messages and files agree; counts what did not."""
    counts = {"messages_sent": _messages(context), "probes_sent": _probes(context)}
    refusals = Refusals()
    counts["parts_removed"] = _parts(context, refusals)
    counts |= _files(context, refusals)
    counts |= _missing(context, refusals)
    counts["files_refused"] = refusals.count
    return counts


def _messages(context: SweepContext) -> int:
    grace = timedelta(seconds=context.configuration.sweep.reconcile_grace_seconds)
    lease = timedelta(seconds=context.configuration.forwarder.lease_seconds)
    total = 0
    while True:
        with context.transaction() as session:
            found = len(sweeps.send_missing_messages(session, grace=grace, lease=lease, limit=BATCH))
        total += found
        if found < BATCH or context.dry:
            break
    if total:
        context.wake_all()
    return total


def _probes(context: SweepContext) -> int:
    with context.transaction() as session:
        overdue = destinations.overdue_probes(session, grace=PROBE_GRACE)
        for ae_title, route in overdue:
            destinations.send_probe(session, ae_title, route, wait=timedelta(), first=True)
    return len(overdue)


# ---- files ---------------------------------------------------------------------------------------


def _parts(context: SweepContext, refusals: Refusals) -> int:
    """The folders of receivers that died are gone; those of the living are locked by them."""
    removed = 0
    for folder in refusals.folders(context.spool.root / PARTIAL):
        with refusals.each(folder):
            has_lock = (folder / LOCK).exists()
            if not has_lock and age_seconds(folder) < context.configuration.sweep.reconcile_grace_seconds:
                continue  # being made just now
            if context.dry and not has_lock:
                removed += _count_parts(folder)
            else:
                removed += _remove_if_dead(context, folder)
    return removed


def _remove_if_dead(context: SweepContext, folder: Path) -> int:
    """How many parts went with the folder, or would go."""
    lock = lock_folder(folder)
    if lock is None:
        return 0
    try:
        parts = _count_parts(folder)
        if not context.dry:
            # Still locked: a receiver that is just about to lock it sees so, and makes another.
            shutil.rmtree(folder)
    finally:
        os.close(lock)
    return parts


def _count_parts(folder: Path) -> int:
    return sum(1 for _ in folder.glob(f"*{SUFFIX}"))


def _files(context: SweepContext, refusals: Refusals) -> Counts:
    counts = {"orphaned": 0, "moved": 0, "damaged": 0}
    candidates = _old_files(context, refusals)
    while batch := list(islice(candidates, BATCH)):
        for path, owner in orphans.owners(context, batch):
            if owner is None or path.parent.parent.name != owner.place:
                with refusals.each(path):
                    _mend(context, path, owner, counts)
    return counts


def _old_files(context: SweepContext, refusals: Refusals) -> Iterator[Path]:
    grace = context.configuration.sweep.orphan_grace_seconds
    for place in Place:
        for study in refusals.folders(context.spool.root / place):
            yield from (path for path in refusals.files(study) if age_seconds(path) > grace)


def _mend(context: SweepContext, path: Path, owner: StoredInstance | None, counts: Counts) -> None:
    """See to a file that no row knows, or that is not where its row says; what was done is counted."""
    own = None if owner is None else context.spool.path(owner.place, path.parent.name, path.name)
    if own is not None and _is_same(path, own):
        # A move that died between its link and its unlink. It is over: the link is older than the
        # grace, and no other move takes a name that is there.
        counts["moved"] += 1
        if not context.dry:
            path.unlink(missing_ok=True)
    elif owner is not None and orphans.is_needed(context, path, owner):
        counts["moved"] += orphans.take_place(context, path, owner)
    elif owner is not None and orphans.is_lost(context, path, owner):
        # It may be all that is left of what is owed.
        counts["damaged"] += orphans.set_aside(context, path, owner, lost=True)
    else:
        # no row's, or a second file of that name: the row's own is elsewhere, or needed no more
        counts["orphaned"] += orphans.set_aside(context, path, owner)


def _is_same(path: Path, other: Path) -> bool:
    """Tell whether both are names of one file."""
    with suppress(FileNotFoundError):
        return path.samefile(other)
    return False


def _missing(context: SweepContext, refusals: Refusals) -> Counts:
    counts = {"brought_back": 0, "files_missing": 0}
    after = 0
    while True:
        with context.database.statement() as session:
            rows = sweeps.undelivered_files(session, after=after, limit=BATCH)
        for row in rows:
            after = row.instance_id
            with refusals.each(context.spool.path(row.place, row.study_instance_uid, row.file_name)):
                if not _is_in_a_place(context, row):
                    counts[_look_for(context, row, counts["files_missing"])] += 1
        if len(rows) < BATCH:
            return counts


def _is_in_a_place(context: SweepContext, row: FileRow) -> bool:
    try:
        found = context.spool.find(row.place, row.study_instance_uid, row.file_name)
    except FileMissingError:
        return False
    return found.parent.parent.name != ORPHANED


def _look_for(context: SweepContext, row: FileRow, missing: int) -> str:
    """What became of an owed file that is in no place: brought back from orphaned/, or told to be lost."""
    with context.database.statement() as session:
        stored = instances.get(session, row.instance_id)
    if stored is not None and orphans.bring_back(context, stored):
        return "brought_back"
    if missing < EXAMPLES and not context.dry:
        log.write(
            Stage.SWEEP,
            "file_missing",
            level="error",
            error=f"no place under {context.spool.root} holds {row.study_instance_uid}/{row.file_name}"
            f"{_damaged(context, row)}",
            study_instance_uid=row.study_instance_uid,
            instance_id=row.instance_id,
        )
    return "files_missing"


def _damaged(context: SweepContext, row: FileRow) -> str:
    path = context.spool.root / DAMAGED / row.study_instance_uid / row.file_name
    return f"; {path} holds other bytes than were received" if path.exists() else ""
