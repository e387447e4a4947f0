"""The instances that were received."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.domain.contract import FORWARD
from gateway.domain.instance import Kind, Place
from gateway.domain.routing import Origin, Target

_Q = load("instances")


class ReceptionVerdict(StrEnum):
    """The result of a registration; see functions/register_reception.sql."""

    REGISTERED = "registered"
    STORED = "stored"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"
    NOT_FORWARDED = "not_forwarded"
    OWED_AGAIN = "owed_again"
    OWED_IN_PART = "owed_in_part"
    EQUALS_SOURCE = "equals_source"
    NAME_TAKEN = "name_taken"


class ReceivedInstance(NamedTuple):
    """A reception whose file is durable, with the values of its envelope. `received_at` is its time."""

    reception_id: UUID
    received_at: datetime
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: bytes
    data_set_size: int
    calling_ae_title: str
    called_ae_title: str
    remote_address: str
    kind: Kind
    file_name: str
    targets: tuple[Target, ...]
    priority: int
    origin: Origin = Origin.SENDER
    result_targets: tuple[Target, ...] = ()
    """The targets of a result: a repeat of a result goes there, whoever sends it."""


class RegisteredInstance(NamedTuple):
    """What the database holds for a received instance; for a repeat, what it held before.

    With NAME_TAKEN only the verdict counts; the other fields have arbitrary values.
    """

    instance_id: int
    verdict: ReceptionVerdict
    file_name: str
    place: Place
    kind: Kind


class StoredInstance(NamedTuple):
    """What is needed to read or send the file of an instance; `sha256` in hex."""

    instance_id: int
    sop_instance_uid: str
    study_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    data_set_size: int
    file_name: str
    conflict: bool
    place: Place


def register(session: Session, received: ReceivedInstance, *, window: timedelta) -> RegisteredInstance:
    """Write the row of an instance, its deliveries, and the message of each delivery.

    Calling it again for the same reception changes nothing, and gives REGISTERED.
    With NAME_TAKEN nothing was written: link the file under another name and call again.
    """
    return session.only(
        RegisteredInstance,
        _Q["register"],
        **_columns(received),
        **_targets("", received.targets),
        **_targets("result_", received.result_targets),
        window=window,
    )


def register_many(
    session: Session, batch: Sequence[ReceivedInstance], *, window: timedelta
) -> list[RegisteredInstance]:
    """Write the rows of several instances in one statement.

    They must be sorted by SOP Instance UID, and within one UID by time of reception. All have the same
    `result_targets`.
    """
    columns = [_columns(received) for received in batch]
    owed = [received.targets for received in batch]
    return session.rows(
        RegisteredInstance,
        _Q["register_many"],
        **{name: [row[name] for row in columns] for name in columns[0]},
        routes=[",".join(target.route for target in targets) for targets in owed],
        targets=["\\".join(target.name for target in targets) for targets in owed],
        actor_names=[",".join(FORWARD[target.route].actor_name for target in targets) for targets in owed],
        **_targets("result_", batch[0].result_targets),
        window=window,
    )


def _targets(prefix: str, targets: Sequence[Target]) -> dict[str, object]:
    return {
        f"{prefix}routes": [target.route.value for target in targets],
        f"{prefix}targets": [target.name for target in targets],
        f"{prefix}actor_names": [FORWARD[target.route].actor_name for target in targets],
    }


def _columns(received: ReceivedInstance) -> dict[str, object]:
    return {
        "reception_id": str(received.reception_id),
        "received_at": received.received_at,
        "sop_instance_uid": received.sop_instance_uid,
        "study_instance_uid": received.study_instance_uid,
        "series_instance_uid": received.series_instance_uid,
        "sop_class_uid": received.sop_class_uid,
        "transfer_syntax_uid": received.transfer_syntax_uid,
        "sha256": received.sha256,
        "data_set_size": received.data_set_size,
        "calling_ae_title": received.calling_ae_title,
        "called_ae_title": received.called_ae_title,
        "remote_address": received.remote_address,
        "kind": received.kind.value,
        "file_name": received.file_name,
        "priority": received.priority,
        "origin": received.origin.value,
    }


def restore_file(session: Session, instance_id: int, file_name: str) -> None:
    """Record `file_name` for an instance whose own file is gone; the sweep moves it to its folder."""
    session.run(_Q["restore_file"], instance_id=instance_id, file_name=file_name)


def has_other_version(session: Session, instance: StoredInstance) -> bool:
    """Tell whether other bytes are kept under the SOP Instance UID, received before or after."""
    return bool(
        session.value(
            _Q["has_other_version"],
            instance_id=instance.instance_id,
            sop_instance_uid=instance.sop_instance_uid,
        )
    )


def get(session: Session, instance_id: int) -> StoredInstance | None:
    """Return the instance with that id, or None where it was purged."""
    return session.row(StoredInstance, _Q["get"], instance_id=instance_id)
