"""Comparisons on a machine that has other load."""

import statistics
from collections.abc import Callable

from support.wire_data import QUICK

ROUNDS = 1 if QUICK else 3


def in_turn(*measurements: Callable[[], float], rounds: int = ROUNDS) -> list[float]:
    """Run each measurement that many times in turn; return the median of each, in their order.

    A disturbance of the machine then affects all measurements of a round, and the median drops outliers.
    """
    found = [[measure() for measure in measurements] for _ in range(rounds)]
    return [statistics.median(figures) for figures in zip(*found, strict=True)]
