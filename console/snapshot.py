"""What a snapshot reads: the rows of `mini-pacs status`, the flow of each target, and who sends."""

from dataclasses import dataclass
from datetime import timedelta

from gateway.config import Configuration
from gateway.database.session import Session
from gateway.database.tables import flow, overview, traffic
from gateway.database.tables.overview import Overview
from gateway.database.tables.traffic import Sender
from gateway.domain.flow import TargetFlow


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the edge does now."""

    view: Overview
    flows: tuple[TargetFlow, ...]
    senders: tuple[Sender, ...]


def snapshot(session: Session, configuration: Configuration) -> Snapshot:
    """Read a snapshot in one transaction."""
    lease = timedelta(seconds=configuration.forwarder.lease_seconds)
    return Snapshot(
        view=overview.overview(session, lease=lease),
        flows=tuple(flow.flows(session, lease=lease)),
        senders=tuple(traffic.senders(session)),
    )
