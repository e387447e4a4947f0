"""Hand over, or cancel, the deliveries to the targets that a configuration removes.

This is done after every process has taken the configuration. Earlier, a process could still send or register
an instance for a removed target. It waits for instances that were received earlier and are unregistered.

If the process dies
    before the commit   what is left stays owed to the removed target. Nothing sends it; `mini-pacs status`
                        shows it, and the next reload asks again
    after the commit    reconcile moves the files that are in the wrong folder
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import debts, destinations, instances
from gateway.database.tables.debts import Debt
from gateway.domain.instance import instances_in_words
from gateway.domain.routing import Target
from gateway.errors import GatewayError
from gateway.spool.spool import Spool

SETTLE_SECONDS = 5.0
"""How long to wait for what is being sent to a removed target, or was received for it and is unregistered."""
AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class SettledDebts:
    """How many deliveries were handed over or cancelled, and what is left.

    `unregistered`: receptions of before are not registered yet; some may be for a removed target.
    """

    count: int
    left: tuple[Debt, ...]
    unregistered: bool = False


def no_backlog() -> datetime | None:
    """Say that every reception is registered."""
    return None


def owed_to_removed(session: Session, configuration: Configuration) -> list[Debt]:
    """Return the debts to targets that the configuration does not have."""
    return debts.owed(session, configuration.forwarder.targets.all)


def in_words(owed: Sequence[Debt]) -> str:
    """Return how much each removed target is owed."""
    return "; ".join(
        f"{debt.name} is owed {instances_in_words(debt.pending + debt.in_flight)}"
        + (f" ({debt.in_flight:,} being sent)" if debt.in_flight else "")
        for debt in owed
    )


def settle(
    database: Database,
    configuration: Configuration,
    *,
    to: Target | None,
    by: str,
    unregistered_since: Callable[[], datetime | None] = no_backlog,
) -> SettledDebts:
    """Hand the pending deliveries of removed targets over to another target (None: cancel them).

    Wait until an instance that is being sent to a removed target is delivered, or pending again.
    An application gets nothing of an archive, and an archive nothing of an application. `unregistered_since`
    returns the time of the oldest reception that is not registered. Receptions of before are waited for, too:
    the processes decided about them by the configuration of before.
    """
    began = datetime.now(UTC)
    with database.transaction() as session:
        # Every process has taken the configuration, or had enough time for it; the other target may be new.
        destinations.configure(session, configuration)
    spool = Spool(configuration.edge.data_root)
    limit = monotonic() + SETTLE_SECONDS
    count = 0
    while True:
        # before the debts: what is registered in between is a debt
        unregistered = _is_unregistered(unregistered_since, began)
        with database.transaction() as session:
            owed = owed_to_removed(session, configuration)
            moved = _settle(session, owed, to=to, by=by)
            left = owed_to_removed(session, configuration)
        count += sum(debt.pending for debt in owed) - sum(debt.pending for debt in left)
        _move_files(database, spool, moved)
        if not (any(debt.in_flight for debt in left) or unregistered) or monotonic() > limit:
            return SettledDebts(count, tuple(left), unregistered)
        time.sleep(AGAIN_SECONDS)


def _is_unregistered(since: Callable[[], datetime | None], began: datetime) -> bool:
    """Tell whether a reception of before `began` may be unregistered."""
    try:
        oldest = since()
    except OSError:  # this command may not read the spool: then nobody knows
        return True
    return oldest is not None and oldest < began


def _settle(session: Session, owed: Iterable[Debt], *, to: Target | None, by: str) -> list[int]:
    moved: list[int] = []
    for debt in owed:
        if not debt.pending:
            continue
        if to is None:
            moved += debts.cancel(session, debt, by=by)
        elif debt.route.is_archive == to.route.is_archive:
            moved += debts.move(session, debt, to, by=by)
    return moved


def _move_files(database: Database, spool: Spool, instance_ids: Iterable[int]) -> None:
    for instance_id in instance_ids:
        with database.statement() as session:
            stored = instances.get(session, instance_id)
        # Safe to ignore: readers look in every folder, and reconcile moves the file later.
        with suppress(GatewayError):
            if stored is not None:
                spool.move(stored.place, stored.study_instance_uid, stored.file_name)
