"""The screen Faults: the active faults, and what they did since they were injected."""

from dataclasses import dataclass
from datetime import datetime

from gateway.database.session import Session
from gateway.database.tables import faults, peers, processes
from gateway.database.tables.faults import Injected
from gateway.faults import EFFECTS


@dataclass(frozen=True, slots=True)
class FaultShown:
    """An active fault with what it does, and how long it still lasts."""

    fault: Injected
    text: str
    left_seconds: float | None


@dataclass(frozen=True, slots=True)
class FaultsShown:
    """The active faults; how many receptions and sends failed by them since the first was injected."""

    now: datetime
    active: tuple[FaultShown, ...]
    refused: int
    failed: int
    since: datetime | None


def look(session: Session) -> FaultsShown:
    """Read the active faults and their effects."""
    now = processes.now(session)
    active = tuple(_shown(one, now) for one in faults.injected(session))
    since = min((one.fault.injected_at for one in active), default=None)
    effects = None if since is None else peers.fault_effects(session, since)
    return FaultsShown(
        now,
        active,
        0 if effects is None else effects.refused,
        0 if effects is None else effects.failed,
        since,
    )


def _shown(fault: Injected, now: datetime) -> FaultShown:
    known = {name.value: effect for name, effect in EFFECTS.items()}
    text = known[fault.name].text if fault.name in known else "this version does not know it"
    left = None if fault.until is None else max((fault.until - now).total_seconds(), 0.0)
    return FaultShown(fault, text, left)
