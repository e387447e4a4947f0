"""What a broken edge is: how it breaks, what an operator must be told, how it is mended."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from proof.edges.lab import Lab, Setup

Steps = Callable[[Lab], Generator[None]]


@dataclass(frozen=True)
class Edge:
    """One broken edge.

    `steps` breaks the lab, yields while it is asked about, and applies the remedy afterwards. `cause` and
    `remedy` are regular expressions without case: one finding must hold all of the first in what it says, and
    all of the second in what it tells to do. `within` is how long an operator can wait for it, in seconds.
    """

    name: str
    setup: Setup
    steps: Steps
    cause: tuple[str, ...]
    remedy: tuple[str, ...]
    within: float = 0.0
    gone_within: float | None = 45.0  # s after the remedy; None: the finding may stay for what has happened

    @property
    def about(self) -> str:
        """What happened to the edge, in a sentence."""
        return (self.steps.__doc__ or "").strip().split("\n")[0]


ALL: dict[str, Edge] = {}


def broken(
    setup: Setup,
    cause: tuple[str, ...],
    remedy: tuple[str, ...],
    *,
    within: float = 0.0,
    gone_within: float | None = 45.0,
) -> Callable[[Steps], Steps]:
    """Register the steps of a broken edge, under the name of the function."""

    def register(steps: Steps) -> Steps:
        name = steps.__name__.replace("_", "-")
        assert name not in ALL, name
        ALL[name] = Edge(name, setup, steps, cause, remedy, within, gone_within)
        return steps

    return register
