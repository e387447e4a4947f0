"""The catalogue of faults, and their seeded order.

No I/O: `process_faults`, `peer_faults` and `injected_faults` do it. No other fault uses the `thing` of a
fault at the same time. The `ways` of a fault are the paths of instances that it breaks; its recovery is
measured on them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Way(StrEnum):
    """A path of instances."""

    RECEIVE = "receive"  # senders to the edge
    PACS = "pacs"  # the edge to the PACS
    ARCHIVES = "archives"  # the edge to the other archive
    WORKERS = "workers"  # the edge to the workers
    SWEEP = "sweep"  # the sweep, once a minute


POSTGRES = "postgres"
EVERY = frozenset({Way.RECEIVE, Way.PACS, Way.WORKERS})
RECEIVE, PACS, ARCHIVES, WORKERS, SWEEP = (frozenset({way}) for way in Way)
SENDING = PACS | WORKERS
NOWHERE: frozenset[Way] = frozenset()


@dataclass(frozen=True, slots=True)
class Kind:
    """One entry of the catalogue: the action, its target, the paths that it breaks, its maximum duration."""

    action: str
    target: str
    ways: frozenset[Way]
    seconds: tuple[float, float] = (0.0, 0.0)
    value: float = 0.0
    weight: int = 1
    """How often in a round; kinds with more than one come first, since a run may be too short for all."""

    @property
    def name(self) -> str:
        """Return the name in the report: only the action if the target is one of several of a kind."""
        return f"{self.action} {self.target}"

    @property
    def thing(self) -> str:
        """Return what no other fault may use at the same time."""
        return "fault" if self.action == "inject" else self.target


@dataclass(frozen=True, slots=True)
class Pick:
    """One future fault: `dice` (0 to 1) chooses among children, `gap` is the pause after its start."""

    kind: Kind
    seconds: float
    gap: float
    dice: float


@dataclass(frozen=True, slots=True)
class Done:
    """One finished fault: `ended` is the end of its cause; all times are seconds of the epoch."""

    name: str
    ways: frozenset[Way]
    began: float
    ended: float


_BRIEF, _LONG = (0.4, 2.0), (2.0, 6.0)
_OFTEN = 2
_OUTAGE = (5.0, 20.0)
_ACTORS = (
    ("actors-pacs", PACS),
    ("actors-workers", WORKERS),
    ("actors-sweep", SWEEP),
    ("actors-archives", ARCHIVES),
)

CATALOGUE: tuple[Kind, ...] = (
    # ---- processes: kill -9 of a leader or of one below it, SIGSTOP with SIGCONT of all or of one below
    Kind("kill", "edge", RECEIVE, weight=_OFTEN),
    Kind("kill child of", "edge", RECEIVE),
    Kind("stop", "edge", RECEIVE, _BRIEF, weight=_OFTEN),
    Kind("stop child of", "edge", RECEIVE, _LONG),
    *(Kind("kill", name, ways, weight=_OFTEN) for name, ways in _ACTORS),
    *(Kind("kill child of", name, ways) for name, ways in _ACTORS),
    *(Kind("stop", name, ways, _LONG, weight=_OFTEN) for name, ways in _ACTORS),
    *(Kind("stop child of", name, ways, _BRIEF) for name, ways in _ACTORS[:2]),
    Kind("kill", "archive", ARCHIVES, weight=_OFTEN),
    Kind("stop", "archive", ARCHIVES, _LONG),
    Kind("kill", "scheduler", SWEEP),
    Kind("stop", "scheduler", SWEEP, _LONG),
    Kind("kill", "metrics", NOWHERE),
    Kind("stop", "metrics", NOWHERE, _LONG),
    Kind("kill", "app01", WORKERS, weight=_OFTEN),
    Kind("kill", "app02", WORKERS),
    Kind("stop", "app03", WORKERS, _LONG, weight=_OFTEN),
    Kind("stop", "app04", WORKERS, _LONG),
    Kind("kill", "pacs", PACS, weight=_OFTEN),
    Kind("stop", "pacs", PACS, _LONG, weight=_OFTEN),
    # ---- PostgreSQL: reception goes on without it
    Kind("kill", POSTGRES, SENDING, weight=_OFTEN),
    Kind("kill child of", POSTGRES, SENDING),
    Kind("stop", POSTGRES, SENDING, _BRIEF),
    # longer than edge.commit_timeout_seconds of the run
    Kind("stop", POSTGRES, SENDING, _OUTAGE),
    Kind("take away", POSTGRES, SENDING, _OUTAGE),
    Kind("restart", POSTGRES, SENDING),
    Kind("hang up on all of", POSTGRES, SENDING),
    # ---- connections
    Kind("cut", "connections of the senders", RECEIVE),
    Kind("break", "connections of the senders", RECEIVE, _BRIEF, 40_000),
    Kind("stall", "connections of the senders", RECEIVE, _BRIEF),
    Kind("cut", "connections of the PACS", PACS, weight=_OFTEN),
    Kind("break", "connections of the PACS", PACS, _BRIEF, 40_000),
    Kind("stall", "connections of the PACS", PACS, _LONG, weight=_OFTEN),
    Kind("refuse", "connections of the PACS", PACS, _LONG),
    # ---- what the PACS answers
    Kind("rejects", "the PACS", PACS, _LONG, weight=_OFTEN),
    Kind("hangs", "the PACS", PACS, _LONG, 6.0, weight=_OFTEN),  # longer than timeout_s of the run
    Kind("is slow", "the PACS", PACS, _LONG, 0.2),
    Kind("answers A700", "the PACS", PACS, _LONG, 0.5, weight=_OFTEN),
    Kind("answers C000", "the PACS", PACS, _LONG, 0.3, weight=_OFTEN),
    Kind("answers B000", "the PACS", PACS, _LONG, 0.5, weight=_OFTEN),
    Kind("answers 0111", "the PACS", PACS, _LONG, weight=_OFTEN),  # to a UID that it has, in any version
    Kind("aborts mid data set", "the PACS", PACS, _LONG, 0.3, weight=_OFTEN),
    # ---- the disk
    Kind("fill", "the disk", RECEIVE, _BRIEF),
    Kind("fill", "the disk", RECEIVE, _LONG, weight=_OFTEN),
    # ---- what the product's own CLI injects
    Kind("inject", "reject_all", RECEIVE, _LONG),
    Kind("inject", "disk_full", RECEIVE, _LONG),
    Kind("inject", "io_delay_ms", EVERY, _LONG, 300, weight=_OFTEN),
    Kind("inject", "random_fail_rate", EVERY, _LONG, 0.3),
    Kind("inject", "pacs_down", PACS, _LONG),
    Kind("inject", "worker_down", WORKERS, _LONG),
    Kind("inject", "worker_hang", WORKERS, _LONG, weight=_OFTEN),
    Kind("inject", "drop_association", EVERY, _LONG, weight=_OFTEN),
    # ---- senders
    Kind("dies mid instance", "a sender", RECEIVE, weight=_OFTEN),
    Kind("aborts mid instance", "a sender", RECEIVE),
)


OUTAGES: tuple[Kind, ...] = (
    Kind("take away", POSTGRES, SENDING, (10.0, 20.0)),
    Kind("stop", POSTGRES, SENDING, (10.0, 20.0)),
)
"""The faults of a period in which nothing but the absence of PostgreSQL can affect reception."""

WITHOUT_POSTGRES: tuple[Kind, ...] = (
    Kind("without PostgreSQL: restart", "edge", RECEIVE),
    Kind("without PostgreSQL: kill", "edge", RECEIVE),
    Kind("without PostgreSQL: kill child of", "edge", RECEIVE),
)
"""What happens to the receivers in the middle of such a period; each in turn."""

KINDS: tuple[Kind, ...] = (*CATALOGUE, *WITHOUT_POSTGRES)
"""All kinds of a run."""


def spares_reception(kind: Kind) -> bool:
    """Tell whether that fault needs no PostgreSQL, and does not affect reception."""
    return Way.RECEIVE not in kind.ways and kind.target != POSTGRES and kind.action != "inject"


def only_workers(kind: Kind) -> bool:
    """Tell whether that fault does not affect the path to the PACS (G5)."""
    return kind.ways <= WORKERS | SWEEP


AMONG_OTHERS = tuple(kind for kind in CATALOGUE if not only_workers(kind))
"""The kinds of the first round if workers' faults have periods of their own: the others."""


def picks(
    seed: int, *, gap: float, kinds: Sequence[Kind] = CATALOGUE, first: Sequence[Kind] | None = None
) -> Iterator[Pick]:
    """Yield faults without end, the same for the same seed.

    The first round has each of `first` (all `kinds`, if None) once, by importance. The next rounds have
    each of `kinds` as often as its weight, in random order. `gap` is the mean time between two starts.
    """
    dice = Random(f"faults of {seed}")  # noqa: S311  to be repeatable
    once = dice.sample(first or kinds, len(first or kinds))
    order = sorted(once, key=lambda kind: -kind.weight)  # a stable sort: random order within a weight
    while True:
        for kind in order:
            seconds, pause = dice.uniform(*kind.seconds), dice.uniform(0.4, 1.6) * gap
            yield Pick(kind, seconds, pause, dice.random())
        weighted = [kind for kind in kinds for _ in range(kind.weight)]
        order = dice.sample(weighted, len(weighted))
