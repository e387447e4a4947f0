"""Brings rows, messages and files back together after whatever came between them.

pending without a message      gets one
breaker without a probe        gets one
file where its row is not      goes where the row says: the row's place follows from its deliveries
file without a row             past a grace, and only where its receiver is gone, goes to orphaned/
parts of a receiver that died  are removed: their senders got no Success
row without a file             is counted and logged; its delivery dies at its next attempt, with the reason
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from pathlib import Path

from gateway import log
from gateway.domain.instance import Place
from gateway.errors import FileMissingError
from gateway.log import Stage
from gateway.spool import LOCK, ORPHANED, PARTIAL, make_folder
from gateway.store import destinations, sweeping
from gateway.sweep.verbs import BATCH, Counts, Sweeping

PROBE_GRACE = timedelta(seconds=30)

EXAMPLES = 10
"""Missing files that are logged one by one: a lost disk would fill the next with lines. All are counted."""


def reconcile(context: Sweeping) -> Counts:
    """Rows, messages and files agree; counts what did not."""
    counts = {"messages_sent": _messages(context), "probes_sent": _probes(context)}
    counts["parts_removed"] = _parts(context)
    counts |= _files(context)
    counts["files_missing"] = _missing(context)
    return counts


def _messages(context: Sweeping) -> int:
    grace = timedelta(seconds=context.configuration.sweep.reconcile_grace_seconds)
    lease = timedelta(seconds=context.configuration.forwarder.lease_seconds)
    total = 0
    while True:
        with context.transaction() as session:
            found = len(sweeping.send_missing_messages(session, grace=grace, lease=lease, limit=BATCH))
        total += found
        if found < BATCH or context.dry:
            break
    if total:
        context.wake_all()
    return total


def _probes(context: Sweeping) -> int:
    with context.transaction() as session:
        overdue = destinations.overdue_probes(session, grace=PROBE_GRACE)
        for ae_title, route in overdue:
            destinations.send_probe(session, ae_title, route, wait=timedelta(), first=True)
    return len(overdue)


# ---- files ---------------------------------------------------------------------------------------


def _parts(context: Sweeping) -> int:
    """The folders of receivers that died are gone; those of the living are locked by them."""
    removed = 0
    for folder in (context.spool.root / PARTIAL).glob("*/"):
        try:
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            if _age_seconds(folder) < context.configuration.sweep.reconcile_grace_seconds:
                continue  # being made just now
            descriptor = None
        try:
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        finally:
            if descriptor is not None:
                os.close(descriptor)
        removed += sum(1 for _ in folder.glob("*.part"))
        if not context.dry:
            shutil.rmtree(folder, ignore_errors=True)
    return removed


def _files(context: Sweeping) -> Counts:
    counts = {"orphaned": 0, "moved": 0}
    grace = context.configuration.sweep.orphan_grace_seconds
    candidates = _old_files(context, grace)
    while batch := list(islice(candidates, BATCH)):
        names = [(path.parent.name, path.name) for _, path in batch]
        with context.database.statement() as session:
            places = sweeping.places_of(session, names)
        for (place, path), name in zip(batch, names, strict=True):
            known = places[name]
            if known is place:
                continue
            if known is None:
                counts["orphaned"] += _orphan(context, path)
            elif not context.spool.path(known, *name).exists():
                counts["moved"] += 1
                if not context.dry:
                    context.spool.move(known, *name, was=place)
            elif _is_same(path, context.spool.path(known, *name)):
                # A move that died between its link and its unlink. It is over: the link is older than the
                # grace, and no other move takes a name that is there.
                counts["moved"] += 1
                if not context.dry:
                    path.unlink(missing_ok=True)
            else:
                # a second file of that name: the row's own is in its place
                counts["orphaned"] += _orphan(context, path)
    return counts


def _old_files(context: Sweeping, grace: float) -> Iterator[tuple[Place, Path]]:
    for place in Place:
        for study in (context.spool.root / place).glob("*/"):
            for path in study.iterdir():
                if _age_seconds(path) > grace:
                    yield place, path


def _is_same(path: Path, other: Path) -> bool:
    """Tell whether both are names of one file."""
    with suppress(FileNotFoundError):
        return path.samefile(other)
    return False


def _orphan(context: Sweeping, path: Path) -> int:
    """Move a file that no row knows, if its receiver is gone: a living one still holds a second link."""
    try:
        if path.stat().st_nlink > 1:
            return 0
        if context.dry:
            return 1
        target = context.spool.root / ORPHANED / path.parent.name / path.name
        make_folder(target.parent)
        if target.exists():
            target = target.with_name(f"{target.stem}.{time.time_ns()}.dcm")
        path.rename(target)
    except FileNotFoundError:
        return 0  # moved meanwhile
    log.write(
        Stage.SWEEP,
        "orphaned",
        level="warning",
        sop_instance_uid=path.stem,
        study_instance_uid=path.parent.name,
    )
    return 1


def _age_seconds(path: Path) -> float:
    """Seconds since the file was written, linked or moved; 0 where it is gone."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return time.time() - max(status.st_mtime, status.st_ctime)
    return 0.0


def _missing(context: Sweeping) -> int:
    missing = 0
    after = 0
    while True:
        with context.database.statement() as session:
            rows = sweeping.undelivered_files(session, after=after, limit=BATCH)
        for row in rows:
            after = row.instance_id
            try:
                context.spool.find(row.place, row.study_instance_uid, row.file_name)
            except FileMissingError as error:
                missing += 1
                if missing <= EXAMPLES and not context.dry:
                    log.write(
                        Stage.SWEEP,
                        "file_missing",
                        level="error",
                        error=str(error),
                        study_instance_uid=row.study_instance_uid,
                        instance_id=row.instance_id,
                    )
        if len(rows) < BATCH:
            return missing
