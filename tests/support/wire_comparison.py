"""Comparisons on a machine with other load."""

import statistics
from collections.abc import Callable

from support.wire_data import QUICK

ROUNDS = 1 if QUICK else 3


def in_turn(*measurements: Callable[[], float]) -> list[float]:
    """Each measured ROUNDS times, one after the other; the median of each, in their order.

    What disturbs the machine for a while disturbs all of a round, and the median leaves out the worst.
    """
    rounds = [[measure() for measure in measurements] for _ in range(ROUNDS)]
    return [statistics.median(figures) for figures in zip(*rounds, strict=True)]
