"""The ledger of units: an application got each series or study whole, at one worker, and it has an outcome.

No I/O. `Units` collects what the rows said during the run, because a unit is deleted when its instances are
purged. A unit is whole if its worker noted each of its instances during the last sending; the state in the
database does not count.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.domain.unit import UnitState
from proof.chaos.journal import Entry
from proof.chaos.ledger import MISSING, NOT_SENT, Deviation, Version

HANG_ENDS_SECONDS = 2.0
"""A process sees the end of a fault within a second."""
DELETED = "deleted"
"""The state of a unit whose row was deleted before it was seen in its last state."""
_SENT = "sent"
_UNSETTLED = frozenset(state.value for state in UnitState if not state.is_settled)
_WENT_OUT = frozenset({UnitState.ANSWERED, UnitState.TIMED_OUT, UnitState.SUPERSEDED})
"""The last states of a unit that was sent."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One sending of a unit: to which worker, from when to when (seconds of the epoch), and its outcome."""

    worker: str
    began: float
    ended: float | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class SeenUnit:
    """A unit as the rows showed it last; `members` are the instances that its worker has by its row."""

    number: int
    application: str
    state: str
    members: frozenset[Version]
    dispatches: tuple[Dispatch, ...]

    @property
    def sending(self) -> Dispatch | None:
        """The last sending that came to its end."""
        return next((one for one in reversed(self.dispatches) if one.outcome == _SENT), None)


@dataclass(slots=True)
class Units:
    """Every unit of the run, by its number."""

    seen: dict[int, SeenUnit] = field(default_factory=dict)

    def unsettled(self) -> list[int]:
        """Return the numbers of the units that were not settled when they were seen last."""
        return [one.number for one in self.seen.values() if one.state in _UNSETTLED]

    def learn(self, units: Sequence[SeenUnit], *, asked: Iterable[int] = ()) -> None:
        """Take over newer rows; the members of a settled unit may be purged one by one.

        A unit of `asked` without a row was settled and deleted meanwhile: only settled ones are deleted.
        """
        for number in set(asked) - {unit.number for unit in units}:
            self.seen[number] = replace(self.seen[number], state=DELETED)
        for unit in units:
            known = self.seen.get(unit.number)
            members = unit.members
            if known is not None and known.sending == unit.sending:
                members |= known.members
            self.seen[unit.number] = SeenUnit(
                unit.number, unit.application, unit.state, members, unit.dispatches
            )


@dataclass(slots=True)
class UnitLedger:
    """Counts by application and state, and every deviation."""

    states: dict[str, Counter[str]] = field(default_factory=dict)
    deviations: list[Deviation] = field(default_factory=list)
    not_sent: set[Version] = field(default_factory=set)
    """Instances that the fault `worker_hang` may have answered in the worker's place."""


def draw_units(
    units: Iterable[SeenUnit], took: Mapping[str, Sequence[Entry]], hangs: Sequence[Span]
) -> UnitLedger:
    """Return the ledger of all units; `took` is what each worker noted, `hangs` when workers hung."""
    ledger = UnitLedger()
    index = {
        worker: _by_version(entries) for worker, entries in took.items()
    }  # a unit looks up few of many entries
    for unit in units:
        route = f"units of {unit.application}"
        counts = ledger.states.setdefault(route, Counter())
        if unit.state in _UNSETTLED:
            counts[MISSING] += 1
            ledger.deviations.append(
                Deviation(MISSING, f"unit {unit.number}", "", route, f"it is still {unit.state}")
            )
            continue
        counts[unit.state] += 1
        if unit.state == UnitState.CANCELLED:
            reason = "each of its deliveries was cancelled"
            ledger.deviations.append(Deviation("cancelled", f"unit {unit.number}", "", route, reason))
        elif unit.state in _WENT_OUT:
            _judge(ledger, unit, route, index, hangs)
    return ledger


def _judge(
    ledger: UnitLedger,
    unit: SeenUnit,
    route: str,
    index: Mapping[str, Mapping[Version, list[float]]],
    hangs: Sequence[Span],
) -> None:
    sending = unit.sending
    if sending is None or sending.ended is None:
        if unit.state != UnitState.SUPERSEDED:
            reason = f"it is {unit.state}, and no sending of it came to its end"
            ledger.deviations.append(Deviation(MISSING, f"unit {unit.number}", "", route, reason))
        return
    noted = index.get(sending.worker, {})
    hung = any(began <= sending.ended and sending.began <= end + HANG_ENDS_SECONDS for began, end in hangs)
    if hung:
        ledger.not_sent |= unit.members
    for version in sorted(unit.members):
        if any(sending.began <= at <= sending.ended for at in noted.get(version, ())):
            continue
        ledger.deviations.append(
            Deviation(
                NOT_SENT if hung else MISSING,
                version[0],
                version[1],
                route,
                f"unit {unit.number} was sent to {sending.worker} without it",
            )
        )


def _by_version(entries: Sequence[Entry]) -> dict[Version, list[float]]:
    found: dict[Version, list[float]] = {}
    for entry in entries:
        found.setdefault((entry.sop_instance_uid, entry.digest), []).append(entry.at)
    return found
