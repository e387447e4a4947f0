"""Comparisons on a machine that has other load."""

import statistics
from collections.abc import Callable

from support.wire_data import QUICK

ROUNDS = 1 if QUICK else 3


def in_turn(*measurements: Callable[[], float]) -> list[float]:
    """Run each measurement ROUNDS times in turn; return the median of each, in their order.

    A disturbance of the machine then affects all measurements of a round, and the median drops outliers.
    """
    rounds = [[measure() for measure in measurements] for _ in range(ROUNDS)]
    return [statistics.median(figures) for figures in zip(*rounds, strict=True)]
