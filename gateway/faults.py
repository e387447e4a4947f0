"""The active faults and what each does at its seam.

Pure: this module holds a table of what is active and answers questions about it. `database.tables.faults`
keeps it no older than a second. Seams ask by the name of what they are about to do; a fault that
carries a stage is active only for seams of that log stage.

seam                        asks
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
    WORKER_DOWN = "worker_down"
    WORKER_HANG = "worker_hang"
    DROP_ASSOCIATION = "drop_association"


@dataclass(frozen=True, slots=True)
class Effect:
    """What an operator reads about a fault, the stages of its seams, the bounds of its value (None: none)."""

    text: str
    stages: tuple[Stage, ...]
    default: float | None = None
    maximum: float | None = None


_SENDS = (Stage.FORWARD_PACS, Stage.FORWARD_WORKER)

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
    """One injected fault; `stage` narrows it to seams of that log stage."""

    name: Name
    value: float | None = None
    stage: Stage | None = None


@dataclass(slots=True)
class Faults:
    """The faults that are active now, as this process last saw them."""

    active: tuple[Active, ...] = ()
    random: Random = field(default_factory=Random)

    def _find(self, name: Name, stage: Stage) -> Active | None:
        for fault in self.active:
            if fault.name is name and fault.stage in {None, stage}:
                return fault
        return None

    def reject_all(self) -> bool:
        """Tell whether every C-STORE is to be refused."""
        return self._find(Name.REJECT_ALL, Stage.RECEIVE) is not None

    def disk_full(self) -> bool:
        """Tell whether spool writes are to fail."""
        return self._find(Name.DISK_FULL, Stage.STORE) is not None

    def io_delay(self, stage: Stage) -> float:
        """Seconds by which this write or send is to be slowed; 0.0 as a rule."""
        fault = self._find(Name.IO_DELAY_MS, stage)
        return 0.0 if fault is None else (fault.value or 0.0) / 1000

    def fails_at_random(self, stage: Stage) -> bool:
        """Throw the dice of `random_fail_rate` for one reception or forward."""
        fault = self._find(Name.RANDOM_FAIL_RATE, stage)
        return fault is not None and self.random.random() < (fault.value or 0.0)

    def peer_is_down(self, route: Route) -> bool:
        """Tell whether connections on that route are to be refused."""
        if route is Route.PACS:
            return self._find(Name.PACS_DOWN, Stage.FORWARD_PACS) is not None
        return self._find(Name.WORKER_DOWN, Stage.FORWARD_WORKER) is not None

    def worker_hangs(self) -> bool:
        """Tell whether a send to a worker is to be taken as answered without being made."""
        return self._find(Name.WORKER_HANG, Stage.FORWARD_WORKER) is not None

    def drops_association(self, stage: Stage) -> bool:
        """Tell whether this association is to be aborted in the middle of a data set."""
        return self._find(Name.DROP_ASSOCIATION, stage) is not None
