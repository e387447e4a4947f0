"""Hand over, or cancel, the deliveries to the targets that a configuration removes.

This is done after every process has taken the configuration. Earlier, a process could still send or register
an instance for a removed target.

If the process dies
    before the commit   what is left stays owed to the removed target. Nothing sends it; `mini-pacs status`
                        shows it, and the next reload asks again
    after the commit    reconcile moves the files that are in the wrong folder
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import debts, destinations, instances
from gateway.database.tables.debts import Debt
from gateway.domain.routing import Target
from gateway.errors import GatewayError
from gateway.spool.spool import Spool

SETTLE_SECONDS = 5.0
"""How long to wait for deliveries that are being sent to a removed target."""
AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class SettledDebts:
    """How many deliveries were handed over or cancelled, and what is left: it is being sent now."""

    count: int
    left: tuple[Debt, ...]


def owed_to_removed(session: Session, configuration: Configuration) -> list[Debt]:
    """Return the debts to targets that the configuration does not have."""
    return debts.owed(session, configuration.forwarder.targets.all)


def settle(database: Database, configuration: Configuration, *, to: Target | None, by: str) -> SettledDebts:
    """Hand the pending deliveries of removed targets over to another target (None: cancel them).

    Wait until an instance that is being sent to a removed target is delivered, or pending again.
    """
    with database.transaction() as session:
        # Every process has taken the configuration, or had enough time for it; the other target may be new.
        destinations.configure(session, configuration)
    spool = Spool(configuration.edge.data_root)
    limit = monotonic() + SETTLE_SECONDS
    count = 0
    while True:
        with database.transaction() as session:
            owed = owed_to_removed(session, configuration)
            moved = _settle(session, owed, to=to, by=by)
        count += sum(debt.pending for debt in owed)
        _move_files(database, spool, moved)
        left = tuple(debt for debt in owed if debt.in_flight)
        if not left or monotonic() > limit:
            return SettledDebts(count, left)
        time.sleep(AGAIN_SECONDS)


def _settle(session: Session, owed: Iterable[Debt], *, to: Target | None, by: str) -> list[int]:
    moved: list[int] = []
    for debt in owed:
        if not debt.pending:
            continue
        if to is None:
            moved += debts.cancel(session, debt, by=by)
        else:
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
