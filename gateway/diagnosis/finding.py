"""A finding: a sentence about what is wrong, what it means for images, and what to type next."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum


class Severity(StrEnum):
    """Whether an operator has to act."""

    PROBLEM = "problem"
    NOTE = "note"


class Holds(IntEnum):
    """What a finding holds back; findings are ranked by it, the smallest first."""

    ALL = 0  # the edge receives nothing, or delivers nothing
    RECEPTION = 1  # some senders, or some instances, are turned away
    PACS = 2  # what the PACS should get
    WORKERS = 3  # what AI applications should get, and their results
    SOME = 4  # some instances only
    LATER = 5  # nothing yet: it will, if nobody acts
    NOTHING = 6


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    `key` names it for programs and stays the same as long as it lasts, as `destination.away:ORTHANC`. `what`
    is wrong, `means` says what that does to images, `remedy` names the command or the key of config.yaml.
    """

    key: str
    severity: Severity
    what: str
    means: str = ""
    remedy: str = ""
    since: datetime | None = None
    holds: Holds = Holds.NOTHING

    @property
    def problem(self) -> bool:
        """Whether an operator has to act."""
        return self.severity is Severity.PROBLEM

    @property
    def text(self) -> str:
        """The whole finding in one line."""
        return "; ".join(part for part in (self.what, self.means, self.remedy) if part)

    def document(self) -> dict[str, object]:
        """Return the fields of the JSON document."""
        return {
            "problem": self.problem,
            "text": self.text,
            "key": self.key,
            "severity": self.severity.value,
            "what": self.what,
            "means": self.means,
            "remedy": self.remedy,
            "since": self.since,
            "holds_back": self.holds.name.lower(),
        }


def problem(
    key: str,
    what: str,
    means: str = "",
    remedy: str = "",
    *,
    since: datetime | None = None,
    holds: Holds = Holds.NOTHING,
) -> Finding:
    """Return a finding that needs an operator."""
    return Finding(key, Severity.PROBLEM, what, means, remedy, since, holds)


def note(
    key: str,
    what: str,
    means: str = "",
    remedy: str = "",
    *,
    since: datetime | None = None,
    holds: Holds = Holds.NOTHING,
) -> Finding:
    """Return a finding that an operator should know."""
    return Finding(key, Severity.NOTE, what, means, remedy, since, holds)


def ranked(found: Iterable[Finding]) -> list[Finding]:
    """Return each key once, problems first, then by what they hold back, in the order in which they came."""
    first: dict[str, Finding] = {}
    for one in found:
        first.setdefault(one.key, one)
    return sorted(first.values(), key=lambda one: (not one.problem, one.holds))
