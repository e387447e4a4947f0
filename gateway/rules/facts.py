"""What is known of an instance when its rules are evaluated."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Truth(StrEnum):
    """What a rule or a condition says of an instance."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    UNDECIDED = "cannot be decided"


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A value that is there and cannot be decoded; `reason` does not contain it."""

    reason: str


Value: TypeAlias = str | int | float | Undecodable
"""One value of an attribute: text without its padding, or a number."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Association and attributes of one instance.

    `attributes` has the non-empty values of each attribute that was asked for and is there; () if it is
    empty. An attribute that is not in it is missing. If the data set could not be read to the end of what was
    asked, `defect` is the reason, and an attribute that is not in it may be missing or not.
    """

    calling_ae: str
    called_ae: str
    sop_class: str
    transfer_syntax: str
    attributes: Mapping[int, tuple[Value, ...]]
    defect: str = ""
