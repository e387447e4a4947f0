"""Make rows, messages and files agree again after a crash.

pending delivery without a message     gets a message
open breaker without a probe           gets a probe
pause whose time is over               ends
file in another folder than its row's  moves to the folder of the row, which follows from the deliveries
file in orphaned/, undelivered row     moves back: its commit became visible only after the grace
file with other bytes than its row     moves to damaged/ if undelivered and the right bytes are nowhere
link of a dead or frozen receiver      its reception is registered (gateway/register/recovery.py)
file in incoming/ with an envelope     the same: a power cut took its link
other file without a row               moves to orphaned/, after a grace and only if its receiver is dead
row without a file                     is counted and logged; its next attempt makes the delivery dead

Do not trust file names; verify size and SHA-256. A disk error at one file is counted and logged, and the
others are still repaired.

If the process dies
    at any line   each repair is one move, one removal or one transaction; the next run continues
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from gateway import log
from gateway.database.tables import breakers, instances, pauses, sweeps
from gateway.database.tables.instances import StoredInstance
from gateway.database.tables.sweeps import FileRow
from gateway.domain.instance import Place
from gateway.errors import FileMissingError
from gateway.forward.pause import end_pause
from gateway.log import Stage
from gateway.register.registration import Registration
from gateway.spool.places import DAMAGED, ORPHANED, is_same_file
from gateway.sweep import orphans, renamed_pacs, unit_repair, unregistered
from gateway.sweep.context import BATCH, EXAMPLES, Counts, DiskErrors, SweepContext
from gateway.sweep.slices import START, Part, Slice, sliced
from gateway.sweep.walk import FileAndOwner, old_files_of_slice

PROBE_GRACE = timedelta(seconds=30)

DELIVERIES = 5000
"""How many due deliveries are looked at in one transaction."""

PLACES = {
    Part.OWED_FILES: (Place.INCOMING, Place.QUEUED),
    Part.STORED_FILES: (Place.SENT, Place.FAILED),
}
"""Owed instances have a slice of their own, so that many stored files do not delay their repair."""


def reconcile(context: SweepContext) -> Counts:
    """Repair what does not agree; count what was found."""
    unit_repair.mend_places(context)
    unit_repair.end_removed(context)
    messages = _messages(context) + unit_repair.send_missing_messages(context)
    counts = {"messages_sent": messages, "probes_sent": _probes(context), "pauses_ended": _pauses(context)}
    disk_errors = DiskErrors()
    registration = unregistered.registration_of(context)
    counts |= unregistered.register_left(context, registration, disk_errors)
    _files(context, registration, disk_errors, counts)
    counts |= _missing(context, disk_errors)
    counts["files_refused"] = disk_errors.count
    renamed_pacs.rename(context)
    return counts


def _messages(context: SweepContext) -> int:
    grace = timedelta(seconds=context.configuration.sweep.reconcile_grace_seconds)
    lease = timedelta(seconds=context.configuration.forwarder.lease_seconds)
    total = 0
    with sliced(context, Part.MESSAGES) as piece:
        while True:
            with context.transaction() as session:
                page = sweeps.send_missing_messages(
                    session, grace=grace, lease=lease, after=int(piece.position or 0), limit=DELIVERIES
                )
            total += page.sent
            if page.sent:
                piece.has_work()
            piece.looked_at(page.looked_at)
            piece.position = START if page.last is None else str(page.last)
            if page.last is None or piece.is_over:
                break
    if total:
        context.wake_all()
    return total


def _probes(context: SweepContext) -> int:
    with context.transaction() as session:
        overdue = breakers.overdue_probes(session, grace=PROBE_GRACE)
        for ae_title, route in overdue:
            breakers.send_probe(session, ae_title, route, wait=timedelta(), first=True)
    return len(overdue)


def _pauses(context: SweepContext) -> int:
    with context.database.statement() as session:
        ended = pauses.ended_pauses(session)
    if context.dry:
        return len(ended)
    return sum(end_pause(context.database, context.wakeup, ae_title) for ae_title in ended)


# ---- files ---------------------------------------------------------------------------------------


def _files(
    context: SweepContext, registration: Registration, disk_errors: DiskErrors, counts: Counts
) -> None:
    counts |= {"orphaned": 0, "moved": 0, "damaged": 0}
    grace = context.configuration.sweep.orphan_grace_seconds
    for part, places in PLACES.items():
        with sliced(context, part) as piece:
            for path, owner in old_files_of_slice(
                context, piece, places, grace_seconds=grace, disk_errors=disk_errors, find=_misplaced
            ):
                with disk_errors.caught(path):
                    _repair(context, registration, path, owner, counts)


def _misplaced(context: SweepContext, paths: list[Path]) -> list[FileAndOwner]:
    """Return the files that no row names in the place where they are, each with its owner."""
    with context.database.statement() as session:
        found = sweeps.misplaced(session, [path.parts[-3:] for path in paths]) if paths else []
    return orphans.owners(context, [paths[number] for number in found]) if found else []


def _repair(
    context: SweepContext,
    registration: Registration,
    path: Path,
    owner: StoredInstance | None,
    counts: Counts,
) -> None:
    """Repair and count a file without a row, or one that is not where its row says."""
    own = None if owner is None else context.spool.path(owner.place, path.parent.name, path.name)
    if path == own:
        return  # it was registered, or its row was changed, after `_misplaced` had looked: nothing is wrong
    if own is not None and is_same_file(path, own):
        # Both are links to one file: a move crashed between link and unlink. No process continues that move:
        # the link is older than the grace, and no other move replaces an existing name.
        counts["moved"] += 1
        if not context.dry:
            path.unlink(missing_ok=True)
    elif owner is not None and orphans.is_needed(context, path, owner):
        counts["moved"] += orphans.put_in_place(context, path, owner)
    elif unregistered.register_file(context, registration, path, has_row=owner is not None):
        counts["registered"] += 1
    elif owner is not None and orphans.is_last_trace(context, path, owner):
        # This file may be all that is left of an instance that must still be delivered.
        counts["damaged"] += orphans.set_aside(context, path, owner, damaged=True)
    else:
        # No row, or a second file of that name: the row's own file is elsewhere, or no longer needed.
        counts["orphaned"] += orphans.set_aside(context, path, owner)


def _missing(context: SweepContext, disk_errors: DiskErrors) -> Counts:
    counts = {"brought_back": 0, "files_missing": 0}
    with sliced(context, Part.MISSING_FILES) as piece:
        for row in _undelivered(context, piece):
            with disk_errors.caught(context.spool.path(row.place, row.study_instance_uid, row.file_name)):
                if not _is_in_a_place(context, row):
                    piece.has_work()
                    counts[_look_for(context, row, counts["files_missing"])] += 1
    return counts


def _undelivered(context: SweepContext, piece: Slice) -> Iterator[FileRow]:
    """Yield the files of undelivered instances until the slice is over; its position is an instance's id."""
    while True:
        after = int(piece.position or 0)
        with context.database.statement() as session:
            rows = sweeps.undelivered_files(session, after=after, limit=BATCH)
        for row in rows:
            yield row
            piece.position = str(row.instance_id)
            if piece.is_over:
                return
        piece.looked_at(len(rows))
        if len(rows) < BATCH:
            piece.position = START
            return


def _is_in_a_place(context: SweepContext, row: FileRow) -> bool:
    try:
        found = context.spool.find(row.place, row.study_instance_uid, row.file_name)
    except FileMissingError:
        return False
    return found.parent.parent.name != ORPHANED


def _look_for(context: SweepContext, row: FileRow, missing: int) -> str:
    """Move an undelivered file back from orphaned/ or damaged/, or log that it is missing.

    Return the name of the count to increase.
    """
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
