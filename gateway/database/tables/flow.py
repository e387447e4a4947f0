"""How far each original has come: at the PACS, at a worker, its result here, its result at the PACS.

Only reads. `mini-pacs demo` waits by it; for the timeline of one study with every attempt see
`mini-pacs status --study`.
"""

from dataclasses import dataclass
from datetime import datetime

from gateway.database.connection import Database, Row
from gateway.database.queries import load

_Q = load("flow")


@dataclass(frozen=True, slots=True)
class FlowStep:
    """One delivery of it, as it stands; `state` is None where none is owed."""

    state: str | None
    settled_at: datetime | None
    destination: str | None
    duration_ms: float | None
    last_error: str | None

    @property
    def delivered(self) -> bool:
        """Tell whether the destination has it."""
        return self.state == "delivered"


@dataclass(frozen=True, slots=True)
class InstanceFlow:
    """An original and, where it has one, its earliest result."""

    study_instance_uid: str
    sop_instance_uid: str
    calling_ae_title: str
    received_at: datetime
    to_pacs: FlowStep
    to_worker: FlowStep
    result_sop_instance_uid: str | None
    result_received_at: datetime | None
    result_ae_title: str | None
    result_to_pacs: FlowStep

    @property
    def complete(self) -> bool:
        """Tell whether the PACS was given the original and its result."""
        return self.to_pacs.delivered and self.to_worker.delivered and self.result_to_pacs.delivered


def ways(database: Database) -> list[InstanceFlow]:
    """The way of every original, in the order of reception."""
    with database.statement() as session:
        return [_way(row) for row in session.all(_Q["originals"])]


def _way(row: Row) -> InstanceFlow:
    study, sop_instance, calling, received_at = row[:4]
    result, result_received_at, result_ae_title = row[14:17]
    return InstanceFlow(
        study,
        sop_instance,
        calling,
        received_at,
        FlowStep(*row[4:9]),
        FlowStep(*row[9:14]),
        result,
        result_received_at,
        result_ae_title,
        FlowStep(*row[17:22]),
    )
