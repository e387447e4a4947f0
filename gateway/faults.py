"""The faults that can be injected on purpose, and which of them are active.

This module holds the active faults in memory; `database.tables.faults` refreshes them each second. The places
below ask it before they act. A fault with a stage is active only in that log stage.

place                       question
spool write                 `disk_full`, `io_delay`
SCP handler                 `reject_all`, `fails_at_random`, `drops_association`
association connect         `peer_is_down`
association send            `io_delay`, `worker_hangs`, `drops_association`
actor middleware            `fails_at_random`
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from types import MappingProxyType

from gateway.domain.routing import Route
from gateway.log import Stage


class Name(StrEnum):
    """Every fault that can be injected."""

    REJECT_ALL = "reject_all"
    DISK_FULL = "disk_full"
    IO_DELAY_MS = "io_delay_ms"
    RANDOM_FAIL_RATE = "random_fail_rate"
    PACS_DOWN = "pacs_down"
    ARCHIVE_DOWN = "archive_down"
    WORKER_DOWN = "worker_down"
    WORKER_HANG = "worker_hang"
    DROP_ASSOCIATION = "drop_association"


@dataclass(frozen=True, slots=True)
class Effect:
    """What a fault does, the log stages that it concerns, and the default and bound of its value."""

    text: str
    stages: tuple[Stage, ...]
    default: float | None = None
    maximum: float | None = None


_SENDS = (Stage.FORWARD_PACS, Stage.FORWARD_ARCHIVE, Stage.FORWARD_WORKER)

EFFECTS: Mapping[Name, Effect] = MappingProxyType(
    {
        Name.REJECT_ALL: Effect("every C-STORE is refused 0xA700", (Stage.RECEIVE,)),
        Name.DISK_FULL: Effect("spool writes fail as on a full disk; senders get 0xA700", (Stage.STORE,)),
        Name.IO_DELAY_MS: Effect(
            "spool writes and sends are slowed by that many milliseconds", (Stage.STORE, *_SENDS), 500, 60_000
        ),
        Name.RANDOM_FAIL_RATE: Effect(
            "that share of receptions and forwards fails", (Stage.RECEIVE, *_SENDS), 0.3, 1
        ),
        Name.PACS_DOWN: Effect("connections to the PACS are refused", (Stage.FORWARD_PACS,)),
        Name.ARCHIVE_DOWN: Effect(
            "connections to every archive beside the PACS are refused", (Stage.FORWARD_ARCHIVE,)
        ),
        Name.WORKER_DOWN: Effect("connections to every worker are refused", (Stage.FORWARD_WORKER,)),
        Name.WORKER_HANG: Effect(
            "a send to a worker is taken as answered without being made: no result comes",
            (Stage.FORWARD_WORKER,),
        ),
        Name.DROP_ASSOCIATION: Effect(
            "associations are aborted in the middle of a data set", (Stage.RECEIVE, *_SENDS)
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Active:
    """One active fault; with a `stage` it is active only in that log stage."""

    name: Name
    value: float | None = None
    stage: Stage | None = None


@dataclass(slots=True)
class Faults:
    """The active faults, as this process last read them."""

    active: tuple[Active, ...] = ()
    random: Random = field(default_factory=Random)

    def _find(self, name: Name, stage: Stage) -> Active | None:
        for fault in self.active:
            if fault.name is name and fault.stage in {None, stage}:
                return fault
        return None

    def reject_all(self) -> bool:
        """Tell whether to refuse every C-STORE."""
        return self._find(Name.REJECT_ALL, Stage.RECEIVE) is not None

    def disk_full(self) -> bool:
        """Tell whether spool writes must fail."""
        return self._find(Name.DISK_FULL, Stage.STORE) is not None

    def io_delay(self, stage: Stage) -> float:
        """Return by how many seconds to delay this write or send; 0.0 without the fault."""
        fault = self._find(Name.IO_DELAY_MS, stage)
        return 0.0 if fault is None else (fault.value or 0.0) / 1000

    def fails_at_random(self, stage: Stage) -> bool:
        """Decide at random, by `random_fail_rate`, whether one reception or forward fails."""
        fault = self._find(Name.RANDOM_FAIL_RATE, stage)
        return fault is not None and self.random.random() < (fault.value or 0.0)

    def peer_is_down(self, route: Route) -> bool:
        """Tell whether to refuse connections on that route."""
        if route is Route.PACS:
            return self._find(Name.PACS_DOWN, Stage.FORWARD_PACS) is not None
        if route is Route.ARCHIVES:
            return self._find(Name.ARCHIVE_DOWN, Stage.FORWARD_ARCHIVE) is not None
        return self._find(Name.WORKER_DOWN, Stage.FORWARD_WORKER) is not None

    def worker_hangs(self) -> bool:
        """Tell whether to skip a send to a worker and take it as answered."""
        return self._find(Name.WORKER_HANG, Stage.FORWARD_WORKER) is not None

    def drops_association(self, stage: Stage) -> bool:
        """Tell whether to abort this association in the middle of a data set."""
        return self._find(Name.DROP_ASSOCIATION, stage) is not None
