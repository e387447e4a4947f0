"""What one condition compares: the values of an attribute, or a value of the association.

A condition on an attribute with several values holds if it holds for one of them. A value that cannot be
decoded makes the condition undecided, unless it holds for another value. A missing or empty attribute has no
value: only `exists: false` holds for it.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Protocol

import re2

from gateway.rules.dictionary import ComparedAs
from gateway.rules.errors import RuleError
from gateway.rules.facts import Truth, Undecodable, Value

MAX_PATTERN = 500
_PATTERN_MEMORY = 1 << 20
"""Limits what one compiled regular expression may take; RE2's default is 8 MiB."""

_DATE = re.compile(r"[0-9]{8}")
_AGE = re.compile(r"([0-9]{3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}

_HOLDS = Truth.HOLDS
_DOES_NOT_HOLD = Truth.DOES_NOT_HOLD
_UNDECIDED = Truth.UNDECIDED


class Comparison(Protocol):
    """One comparison."""

    @property
    def words(self) -> str:
        """Say it after the name of what is compared."""

    @property
    def key(self) -> str:
        """The key in the file."""

    @property
    def operand(self) -> object:
        """The value of the key, in its canonical form."""

    def decide(self, values: tuple[Value, ...]) -> Truth:
        """Return the outcome for the non-empty values of something that is there."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """`equals` and `in`: one of the values is one of `allowed`."""

    allowed: tuple[str | int | float, ...]
    names: tuple[str, ...]
    key: str
    _members: frozenset[str | int | float] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_members", frozenset(self.allowed))

    @property
    def words(self) -> str:
        """See `Comparison`."""
        return f"is {self.names[0]}" if len(self.names) == 1 else f"is one of {', '.join(self.names)}"

    @property
    def operand(self) -> object:
        """See `Comparison`."""
        return self.allowed[0] if self.key == "equals" else list(self.allowed)

    def decide(self, values: tuple[Value, ...]) -> Truth:
        """See `Comparison`."""
        outcome = _DOES_NOT_HOLD
        for value in values:
            if isinstance(value, Undecodable):
                outcome = _UNDECIDED
            elif value in self._members:
                return _HOLDS
        return outcome


@dataclass(frozen=True, slots=True)
class Matches:
    """`matches`: a whole value matches the regular expression."""

    pattern: str
    _compiled: Any = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", _compile(self.pattern))

    @property
    def key(self) -> str:
        """See `Comparison`."""
        return "matches"

    @property
    def words(self) -> str:
        """See `Comparison`."""
        return f"matches {self.pattern} as a whole"

    @property
    def operand(self) -> object:
        """See `Comparison`."""
        return self.pattern

    def decide(self, values: tuple[Value, ...]) -> Truth:
        """See `Comparison`."""
        outcome = _DOES_NOT_HOLD
        for value in values:
            if not isinstance(value, str):
                outcome = _UNDECIDED
            elif self._compiled.fullmatch(value) is not None:
                return _HOLDS
        return outcome


def _compile(pattern: str) -> Any:  # noqa: ANN401  google-re2 has no types
    if len(pattern) > MAX_PATTERN:
        raise RuleError(f"a regular expression has at most {MAX_PATTERN} characters, this one {len(pattern)}")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise RuleError(
            f"{pattern} is no regular expression of RE2 ({reason}); RE2 has no look-around and no "
            "back-references"
        ) from error
    except UnicodeEncodeError as error:
        raise RuleError(f"{pattern!r} is no text") from error


@dataclass(frozen=True, slots=True)
class Range:
    """`range`: a number, an age in years or a date is not below `least` and not above `most`."""

    least: str | float | None
    most: str | float | None
    unit: ComparedAs

    @property
    def key(self) -> str:
        """See `Comparison`."""
        return "range"

    @property
    def words(self) -> str:
        """See `Comparison`."""
        unit = " years" if self.unit is ComparedAs.AGE else ""
        if self.most is None:
            return f"is at least {_shown(self.least)}{unit}"
        if self.least is None:
            return f"is at most {_shown(self.most)}{unit}"
        return f"is from {_shown(self.least)} to {_shown(self.most)}{unit}"

    @property
    def operand(self) -> object:
        """See `Comparison`."""
        both = {"min": self.least, "max": self.most}
        return {key: value for key, value in both.items() if value is not None}

    def decide(self, values: tuple[Value, ...]) -> Truth:
        """See `Comparison`."""
        outcome = _DOES_NOT_HOLD
        for value in values:
            comparable = _comparable(value, self.unit)
            if comparable is None:
                outcome = _UNDECIDED
            elif self._holds(comparable):
                return _HOLDS
        return outcome

    def _holds(self, value: str | float) -> bool:
        # The parser gave both limits the type of `value`.
        return (self.least is None or self.least <= value) and (  # type: ignore[operator]
            self.most is None or value <= self.most  # type: ignore[operator]
        )


def _comparable(value: Value, unit: ComparedAs) -> str | float | None:
    """Return the value as the limits of a range are given; None if it is no such value."""
    if isinstance(value, Undecodable):
        return None
    if unit is ComparedAs.NUMBER:
        return None if isinstance(value, str) else value
    if not isinstance(value, str):
        return None
    if unit is ComparedAs.DATE:
        return value if _DATE.fullmatch(value) else None
    return age_in_years(value)


def age_in_years(text: str) -> float | None:
    """Return a value of VR AS (PS3.5 §6.2), such as 018M, in years; None if it is none."""
    found = _AGE.fullmatch(text)
    return None if found is None else int(found[1]) / _PER_YEAR[found[2]]


def is_date(text: str) -> bool:
    """Tell whether the text has eight digits, as a value of VR DA has."""
    return _DATE.fullmatch(text) is not None


def _shown(limit: str | float | None) -> str:
    return f"{limit:g}" if isinstance(limit, float) and limit == int(limit) else str(limit)


@dataclass(frozen=True, slots=True)
class Exists:
    """`exists`: there is a value, or there is none."""

    expected: bool

    @property
    def key(self) -> str:
        """See `Comparison`."""
        return "exists"

    @property
    def words(self) -> str:
        """See `Comparison`."""
        return "has a value" if self.expected else "is missing or empty"

    @property
    def operand(self) -> object:
        """See `Comparison`."""
        return self.expected

    def decide(self, values: tuple[Value, ...]) -> Truth:
        """See `Comparison`."""
        return _HOLDS if bool(values) is self.expected else _DOES_NOT_HOLD
