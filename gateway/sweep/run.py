"""Run the verbs in their order and record what each counted; then vacuum the queue and rotate the log.

The run of each minute is bounded (gateway/sweep/slices.py). While there is more to purge, it repeats all
verbs for up to half a minute, so that purging keeps up and the other verbs run between its slices.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from gateway import log
from gateway.database.tables import metrics, queues, sweeps
from gateway.errors import DatabaseError
from gateway.log import Stage
from gateway.sweep.context import Counts, SweepContext
from gateway.sweep.expire import expire
from gateway.sweep.purge import purge
from gateway.sweep.reconcile import reconcile
from gateway.sweep.rescue import rescue
from gateway.sweep.slices import Part

VERBS: Mapping[str, Callable[[SweepContext], Counts]] = {
    "rescue": rescue,
    "reconcile": reconcile,
    "expire": expire,
    "purge": purge,
}

WARN_ABOUT = ("files_missing", "files_refused", "damaged")
"""Counts that turn the verb's log line into a warning."""


PURGING_SECONDS = 25.0
"""No further round begins after this time; with the last round, a run must end within its minute."""


def each_minute(context: SweepContext) -> None:
    """Run every verb for its slice of time; repeat that while purge deletes and has more to delete."""
    began = context.clock()
    while sweep(context)["purge"]["purged"] and Part.OLD_INSTANCES in context.unfinished:
        if context.clock() - began >= PURGING_SECONDS:
            break


def sweep(context: SweepContext, verbs: tuple[str, ...] = tuple(VERBS)) -> dict[str, Counts]:
    """Run `verbs` and return what each counted. A dry run changes and records nothing.

    Raises:
        UnknownSpoolError: spool and database are no known pair; nothing is repaired or deleted.
    """
    counted = {}
    for verb in verbs:
        began = time.monotonic()
        with context.database.statement() as session:
            context.require_known(session)
        counts = VERBS[verb](context)
        counted[verb] = counts
        if context.dry:
            continue
        with context.database.statement() as session:
            sweeps.note(session, verb, counts)
        log.write(
            Stage.SWEEP,
            verb,
            level="warning" if any(counts.get(name) for name in WARN_ABOUT) else "info",
            count=sum(counts.values()),
            detail=", ".join(f"{name} {count}" for name, count in counts.items()),
            duration_ms=(time.monotonic() - began) * 1000,
        )
    if not context.dry and set(verbs) == set(VERBS):
        # A sweep that was killed several times left a dead message. This complete run makes it obsolete.
        with context.database.statement() as session:
            if cleared := sweeps.clear_superseded(session):
                log.write(Stage.SWEEP, "dead_messages_cleared", count=cleared)
    if not context.dry:
        # Remove the dead tuples of short-lived messages before they slow down the claims.
        with suppress(DatabaseError):  # too slow for the deadline of a statement; autovacuum continues
            queues.vacuum(context.database)
        # `mini-pacs metrics` does this every few seconds, if it runs.
        with suppress(DatabaseError), context.database.transaction() as session:
            metrics.fold(session)
        edge = context.configuration.edge
        log.rotate(edge.log_path, max_bytes=edge.log_max_mb << 20, backups=edge.log_backups)
    return counted
