"""What the sweep asks of the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.instances import StoredInstance, stored_of
from gateway.domain.contract import EXPIRE_RESULT, FORWARD_TO_PACS, FORWARD_TO_WORKER, PROBE, SWEEP
from gateway.domain.instance import Place

_Q = load("sweep")
_ACTORS = {"pacs_actor": FORWARD_TO_PACS.actor_name, "worker_actor": FORWARD_TO_WORKER.actor_name}


@dataclass(frozen=True, slots=True)
class FileRow:
    """The file of an instance, as its row knows it."""

    instance_id: int
    study_instance_uid: str
    file_name: str
    place: Place


@dataclass(frozen=True, slots=True)
class LastRun:
    """When a verb of the sweep last ran, and what it counted."""

    verb: str
    ran_at: datetime
    counts: dict[str, int]


def rescue(session: Session, *, limit: int) -> list[int]:
    """Deliveries that were in flight past their lease and are pending now, with a message."""
    return [row[0] for row in session.all(_Q["rescue"], limit=limit, **_ACTORS)]


def send_missing_messages(session: Session, *, grace: timedelta, lease: timedelta, limit: int) -> list[int]:
    """Pending deliveries past their time by `grace` without a message, or with one held for `lease`: sent."""
    rows = session.all(_Q["send_missing_messages"], grace=grace, lease=lease, limit=limit, **_ACTORS)
    return [row[0] for row in rows]


def owners_of(session: Session, files: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredInstance]:
    """For each (study, file name) that a row knows: the instance whose file has that name."""
    rows = session.all(_Q["owners_of"], studies=[f[0] for f in files], names=[f[1] for f in files])
    return {(row[0], row[1]): stored_of(row[2:]) for row in rows}


def undelivered_files(session: Session, *, after: int, limit: int) -> list[FileRow]:
    """Instances that are still owed, by id, those after `after`."""
    rows = session.all(_Q["undelivered_files"], after=after, limit=limit)
    return [FileRow(row[0], row[1], row[2], Place(row[3])) for row in rows]


def is_owed(session: Session, instance_id: int) -> bool:
    """Tell whether a delivery of that instance is pending, in flight or dead."""
    row = session.one(_Q["is_owed"], instance_id=instance_id)
    assert row is not None, "a row without a FROM"
    return bool(row[0])


def lock_purgeable(session: Session, *, retention: timedelta, limit: int) -> list[FileRow]:
    """Instances that owe nothing and are older than `retention`; locked until the transaction ends."""
    rows = session.all(_Q["lock_purgeable"], retention=retention, limit=limit)
    still = {row[0] for row in session.all(_Q["still_purgeable"], instance_ids=[row[0] for row in rows])}
    return [FileRow(row[0], row[1], row[2], Place(row[3])) for row in rows if row[0] in still]


def clear_superseded(session: Session) -> int:
    """Delete dead messages of the housekeeping whose work has been done by other means; their count."""
    return session.run(
        _Q["clear_superseded"],
        sweep_queue=SWEEP.queue_name,
        sweep_actors=[SWEEP.actor_name, EXPIRE_RESULT.actor_name],
        probe_actors=[contract.actor_name for contract in PROBE.values()],
    )


def delete_instances(session: Session, instance_ids: Sequence[int]) -> int:
    """Those instances are forgotten with everything that hangs on them; their count."""
    return session.run(_Q["delete_instances"], instance_ids=list(instance_ids))


def note(session: Session, verb: str, counts: Mapping[str, int]) -> None:
    """`mini-pacs status` shows that `verb` ran now."""
    session.run(_Q["note"], verb=verb, counts=orjson.dumps(dict(counts)).decode())


def last_runs(session: Session) -> list[LastRun]:
    """When each verb last ran."""
    return [LastRun(*row) for row in session.all(_Q["last"])]
