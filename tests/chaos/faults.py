"""The catalogue of what may go wrong, and the seeded order in which it does.

Pure: what a fault does stands in `process_faults`, `peer_faults` and `product_faults`. Its `thing` is what
no other fault has at the same time; its `ways` are those of instances that it breaks, by which its recovery
is measured.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Way(StrEnum):
    """A way of instances."""

    RECEIVE = "receive"  # senders to the edge
    PACS = "pacs"  # the edge to the PACS
    WORKERS = "workers"  # the edge to the workers
    SWEEP = "sweep"  # the healer's minute


EVERY = frozenset({Way.RECEIVE, Way.PACS, Way.WORKERS})
RECEIVE, PACS, WORKERS, SWEEP = (frozenset({way}) for way in Way)
SENDING = PACS | WORKERS


@dataclass(frozen=True, slots=True)
class Kind:
    """One entry of the catalogue: what is done, to what, which ways it breaks, and for how long at most."""

    action: str
    target: str
    ways: frozenset[Way]
    seconds: tuple[float, float] = (0.0, 0.0)
    value: float = 0.0

    @property
    def name(self) -> str:
        """As in the report: the action alone where the target is one of several of its sort."""
        return f"{self.action} {self.target}"

    @property
    def thing(self) -> str:
        """What no other fault may have meanwhile."""
        return "fault" if self.action == "inject" else self.target


@dataclass(frozen=True, slots=True)
class Pick:
    """One fault to come: `dice` (0 to 1) chooses among children, `gap` is the pause after its begin."""

    kind: Kind
    seconds: float
    gap: float
    dice: float


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was: `ended` is when its cause was gone; all are seconds of the epoch."""

    name: str
    ways: frozenset[Way]
    began: float
    ended: float


_BRIEF, _LONG = (0.4, 2.0), (2.0, 6.0)
_ACTORS = (("actors-pacs", PACS), ("actors-workers", WORKERS), ("actors-sweep", SWEEP))

CATALOGUE: tuple[Kind, ...] = (
    # ---- processes: kill -9 of a leader or of one below it, SIGSTOP with SIGCONT of all or of one below
    Kind("kill", "edge", RECEIVE),
    Kind("kill child of", "edge", RECEIVE),
    Kind("stop", "edge", RECEIVE, _BRIEF),
    Kind("stop child of", "edge", RECEIVE, _LONG),
    *(Kind("kill", name, ways) for name, ways in _ACTORS),
    *(Kind("kill child of", name, ways) for name, ways in _ACTORS),
    *(Kind("stop", name, ways, _LONG) for name, ways in _ACTORS),
    *(Kind("stop child of", name, ways, _BRIEF) for name, ways in _ACTORS[:2]),
    Kind("kill", "scheduler", SWEEP),
    Kind("kill", "app01", WORKERS),
    Kind("kill", "app02", WORKERS),
    Kind("stop", "app03", WORKERS, _LONG),
    Kind("stop", "app04", WORKERS, _LONG),
    Kind("kill", "pacs", PACS),
    Kind("stop", "pacs", PACS, _LONG),
    Kind("kill", "postgres", EVERY),
    Kind("kill child of", "postgres", EVERY),
    Kind("stop", "postgres", EVERY, _BRIEF),
    Kind("stop", "postgres", EVERY, (3.5, 5.0)),  # longer than edge.commit_timeout_seconds of the run
    Kind("hang up on all of", "postgres", EVERY),
    # ---- connections
    Kind("cut", "cable of the senders", RECEIVE),
    Kind("fray", "cable of the senders", RECEIVE, _BRIEF, 40_000),
    Kind("pull", "cable of the senders", RECEIVE, _BRIEF),
    Kind("cut", "cable of the PACS", PACS),
    Kind("fray", "cable of the PACS", PACS, _BRIEF, 40_000),
    Kind("pull", "cable of the PACS", PACS, _LONG),
    Kind("refuse", "cable of the PACS", PACS, _LONG),
    # ---- what the PACS answers
    Kind("rejects", "the PACS", PACS, _LONG),
    Kind("hangs", "the PACS", PACS, _LONG, 6.0),  # longer than timeout_s of the run
    Kind("is slow", "the PACS", PACS, _LONG, 0.2),
    Kind("answers A700", "the PACS", PACS, _LONG, 0.5),
    Kind("answers C000", "the PACS", PACS, _LONG, 0.3),
    Kind("answers B000", "the PACS", PACS, _LONG, 0.5),
    Kind("aborts mid data set", "the PACS", PACS, _LONG, 0.3),
    # ---- the disk
    Kind("fill", "the disk", RECEIVE, _BRIEF),
    Kind("fill", "the disk", RECEIVE, _LONG),
    # ---- what the product's own CLI injects
    Kind("inject", "reject_all", RECEIVE, _LONG),
    Kind("inject", "disk_full", RECEIVE, _LONG),
    Kind("inject", "io_delay_ms", EVERY, _LONG, 300),
    Kind("inject", "random_fail_rate", EVERY, _LONG, 0.3),
    Kind("inject", "pacs_down", PACS, _LONG),
    Kind("inject", "worker_down", WORKERS, _LONG),
    Kind("inject", "worker_hang", WORKERS, _LONG),
    Kind("inject", "drop_association", EVERY, _LONG),
    # ---- senders
    Kind("dies mid instance", "a sender", RECEIVE),
    Kind("dies mid instance", "a sender", RECEIVE),
    Kind("aborts mid instance", "a sender", RECEIVE),
    Kind("aborts mid instance", "a sender", RECEIVE),
)


def only_workers(kind: Kind) -> bool:
    """Tell whether that fault leaves the way to the PACS alone (G5)."""
    return kind.ways <= WORKERS | SWEEP


def picks(seed: int, *, gap: float, kinds: Collection[Kind] = CATALOGUE) -> Iterator[Pick]:
    """Faults without end, the same for the same seed: the whole catalogue in a random order, then anew.

    `gap` is the mean pause from the begin of one to the begin of the next.
    """
    dice = Random(f"faults of {seed}")  # noqa: S311  to be repeatable
    while True:
        for kind in dice.sample(list(kinds), len(kinds)):
            seconds, pause = dice.uniform(*kind.seconds), dice.uniform(0.4, 1.6) * gap
            yield Pick(kind, seconds, pause, dice.random())
