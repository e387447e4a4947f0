"""Retry, resend and cancel deliveries."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gateway import log
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import deliveries, instances, selected_deliveries
from gateway.database.tables.activity import Operator
from gateway.database.tables.selected_deliveries import Selection
from gateway.database.wakeup import wake_once
from gateway.domain.delivery import State
from gateway.domain.routing import Route
from gateway.errors import GatewayError
from gateway.log import Stage
from gateway.operate.record import Record, recorder
from gateway.spool.spool import Spool

SHOWN_IDS = 20

Ids = Sequence[tuple[int, int]]


def retry(
    database: Database,
    root: Path,
    selection: Selection,
    operator: Operator,
    record: Record | None = None,
) -> list[int]:
    """Make dead and cancelled deliveries pending; let pending ones wait no longer. Return those changed."""
    return _again(database, root, selection, _Doer(operator, "retry", record), (State.DEAD, State.CANCELLED))


def resend(
    database: Database,
    root: Path,
    selection: Selection,
    operator: Operator,
    record: Record | None = None,
) -> list[int]:
    """Do the same, and send delivered ones again. Return the deliveries that were changed."""
    states = (State.DEAD, State.CANCELLED, State.DELIVERED)
    return _again(database, root, selection, _Doer(operator, "resend", record), states)


def cancel(
    database: Database,
    root: Path,
    selection: Selection,
    operator: Operator,
    record: Record | None = None,
) -> list[int]:
    """Cancel pending and dead deliveries. Return those that were changed."""

    def change(session: Session) -> Ids:
        return selected_deliveries.cancel(session, selection, by=operator.text)

    return _change(database, root, selection, _Doer(operator, "cancel", record), change)


_DONE = {"retry": "retried", "resend": "resent", "cancel": "cancelled"}


class _Doer(NamedTuple):
    """Who does what, and how it is recorded."""

    operator: Operator
    verb: str
    record: Record | None


def _again(
    database: Database, root: Path, selection: Selection, doer: _Doer, of: tuple[State, ...]
) -> list[int]:
    def change(session: Session) -> Ids:
        return [
            *selected_deliveries.requeue(session, selection, of=of),
            *selected_deliveries.retry_now(session, selection),
        ]

    return _change(database, root, selection, doer, change)


def _change(
    database: Database, root: Path, selection: Selection, doer: _Doer, change: Callable[[Session], Ids]
) -> list[int]:
    """Change the rows in one transaction; then move the files and wake the consumers."""
    done = _DONE[doer.verb]
    with database.transaction() as session:
        changed = dict(change(session))
        moved = deliveries.mend_places(session, sorted(set(changed.values())))
        if changed:
            noted = doer.record or recorder(doer.operator, doer.verb, described(selection), done)
            noted(session, len(changed))
    if not changed:
        return []
    _move(database, root, moved)
    wake_once(database.dsn, Route)
    log.write(Stage.QUEUE, done, level="warning", count=len(changed), detail=f"by {doer.operator.text}")
    return sorted(changed)


def _move(database: Database, root: Path, moved: list[int]) -> None:
    spool = Spool(root)
    with database.statement() as session:
        for instance_id in moved:
            stored = instances.get(session, instance_id)
            # A file that cannot be moved now stays in its old folder, where readers still find it.
            # Reconcile moves it later.
            with suppress(GatewayError):
                if stored is not None:
                    spool.move(stored.place, stored.study_instance_uid, stored.file_name)


def described(selection: Selection) -> str:
    """Return the selection as a text, such as `state dead, target PACS`; `all deliveries` without one."""
    ids = ", ".join(map(str, selection.delivery_ids[:SHOWN_IDS])) if selection.delivery_ids else ""
    more = ", …" if selection.delivery_ids and len(selection.delivery_ids) > SHOWN_IDS else ""
    parts = (
        ("delivery", selection.delivery_id),
        ("deliveries", f"{ids}{more}" or None),
        ("study", selection.study),
        ("state", selection.state),
        ("route", selection.route),
        ("target", selection.target),
    )
    return ", ".join(f"{name} {value}" for name, value in parts if value is not None) or "all deliveries"
