"""What the sweep reads and changes."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import orjson

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.instances import StoredInstance
from gateway.domain.contract import END_PAUSE, EXPIRE_RESULT, EXPIRE_UNIT, FORWARD_UNIT, PROBE, SWEEP
from gateway.domain.instance import Place

_Q = load("sweep")


class FileRow(NamedTuple):
    """The file of an instance, as its row names it."""

    instance_id: int
    study_instance_uid: str
    file_name: str
    place: Place


class SentMessages(NamedTuple):
    """How many due deliveries were looked at, how many messages were sent; the last id, None at the end."""

    looked_at: int
    sent: int
    last: int | None


class _Old(NamedTuple):
    received_at: datetime
    instance_id: int


class LastRun(NamedTuple):
    """When a part of the sweep last ran, and its counts."""

    verb: str
    ran_at: datetime
    counts: dict[str, int]


def rescue(session: Session, *, limit: int) -> list[int]:
    """Make deliveries whose lease is over pending, each with a message; return their ids."""
    return session.values(_Q["rescue"], limit=limit)


def send_missing_messages(
    session: Session, *, grace: timedelta, lease: timedelta, after: int, limit: int
) -> SentMessages:
    """Send messages for due deliveries that have none, or one that is held for `lease`.

    Look at the next `limit` due deliveries after an id.
    """
    due = session.values(_Q["due_deliveries"], grace=grace, after=after, limit=limit)
    sent = session.values(_Q["send_missing_messages"], grace=grace, lease=lease, delivery_ids=due)
    return SentMessages(len(due), len(sent), due[-1] if len(due) == limit else None)


def owners_of(session: Session, files: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredInstance]:
    """Return, by (study, file name), the instances whose files have these names; others are left out."""
    owners = session.rows(
        StoredInstance,
        _Q["owners_of"],
        studies=[study for study, _ in files],
        names=[name for _, name in files],
    )
    return {(owner.study_instance_uid, owner.file_name): owner for owner in owners}


def misplaced(session: Session, files: Sequence[Sequence[str]]) -> list[int]:
    """Return the positions in `files` (place, study, file name) of those that no row names in that place."""
    places, studies, names = (list(column) for column in zip(*files, strict=True))
    numbers = session.values(_Q["misplaced"], places=places, studies=studies, names=names)
    return [number - 1 for number in numbers]


def position(session: Session, part: str) -> str:
    """Return how far a part of the sweep came in its present pass; empty at the begin of a pass."""
    return session.value(_Q["position"], part=part) or ""


def store_position(session: Session, part: str, reached: str) -> float:
    """Store how far a part came (empty: the pass has ended); return the seconds since the pass began."""
    return float(session.value(_Q["store_position"], part=part, position=reached))


def undelivered_files(session: Session, *, after: int, limit: int) -> list[FileRow]:
    """Return the files of instances that are not delivered everywhere, by id, those after `after`."""
    return session.rows(FileRow, _Q["undelivered_files"], after=after, limit=limit)


def is_owed(session: Session, instance_id: int) -> bool:
    """Tell whether a delivery of that instance is pending, in flight or dead."""
    return bool(session.value(_Q["is_owed"], instance_id=instance_id))


def lock_purgeable(
    session: Session, *, retention: timedelta, after: str, limit: int
) -> tuple[list[FileRow], str]:
    """Lock those of the next `limit` old instances that are settled and older than `retention`.

    Return them, and the position for the next call; it is empty after the last old instance.
    """
    received_at, _, instance_id = after.partition(" ")
    old = session.rows(
        _Old,
        _Q["old_instances"],
        retention=retention,
        received_at=received_at or "-infinity",
        id=int(instance_id or 0),
        limit=limit,
    )
    ids = [one.instance_id for one in old]
    locked = session.rows(FileRow, _Q["lock_purgeable"], retention=retention, instance_ids=ids)
    still = set(session.values(_Q["still_purgeable"], instance_ids=[row.instance_id for row in locked]))
    reached = f"{old[-1].received_at.isoformat()} {old[-1].instance_id}" if len(old) == limit else ""
    return [row for row in locked if row.instance_id in still], reached


def clear_superseded(session: Session) -> int:
    """Delete dead messages of the sweep, of probes and units whose work was done; return how many."""
    return session.run(
        _Q["clear_superseded"],
        sweep_queue=SWEEP.queue_name,
        sweep_actors=[one.actor_name for one in (SWEEP, EXPIRE_RESULT, EXPIRE_UNIT, END_PAUSE)],
        unit_actor=FORWARD_UNIT.actor_name,
        probe_actors=[contract.actor_name for contract in PROBE.values()],
    )


def make_durable(session: Session) -> None:
    """Make all earlier commits of the database durable, those without a wait for the disk included."""
    session.one(_Q["make_durable"])


def delete_instances(session: Session, instance_ids: Sequence[int]) -> int:
    """Delete instances with the rows that refer to them; return how many."""
    return session.run(_Q["delete_instances"], instance_ids=list(instance_ids))


def note(session: Session, verb: str, counts: Mapping[str, int]) -> None:
    """Record for `mini-pacs status` that `verb` ran now."""
    session.run(_Q["note"], verb=verb, counts=orjson.dumps(dict(counts)).decode())


def last_runs(session: Session) -> list[LastRun]:
    """Return when each part of the sweep last ran."""
    return session.rows(LastRun, _Q["last"])
