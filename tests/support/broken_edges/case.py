"""One broken edge: how to break it, what a diagnosis must say, how to mend it.

A case is a generator. It breaks the edge before its `yield`, which gives the finding. After the `yield` it
applies the remedy that the finding names.
"""

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

Breaking = Generator[None, Any, None]
"""What a case returns; `send` gives it the finding."""


@dataclass(frozen=True)
class Case:
    """One broken edge."""

    name: str
    key: str
    what: tuple[str, ...]
    remedy: tuple[str, ...]
    breaking: Callable[..., Breaking]

    @property
    def subject(self) -> str:
        """The subject of the finding: cases of one subject share an edge."""
        return re.split(r"[.:]", self.key)[0]


CASES: list[Case] = []


def case(
    key: str, what: str | tuple[str, ...], remedy: str | tuple[str, ...]
) -> Callable[[Callable[..., Breaking]], Callable[..., Breaking]]:
    """Add a case: the key of its finding, words in `what` and in `remedy`."""

    def add(breaking: Callable[..., Breaking]) -> Callable[..., Breaking]:
        words = (what,) if isinstance(what, str) else what
        remedies = (remedy,) if isinstance(remedy, str) else remedy
        CASES.append(Case(breaking.__name__, key, words, remedies, breaking))
        return breaking

    return add
