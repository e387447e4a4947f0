"""A rule: conditions under `all`, `any` and `not`.

Each node says its outcome, the words for an operator, its canonical form (what YAML would contain), and the
attributes that it asks for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gateway.rules.comparisons import Comparison
from gateway.rules.dictionary import Attribute
from gateway.rules.facts import Facts, Truth, Value

_HOLDS = Truth.HOLDS
_DOES_NOT_HOLD = Truth.DOES_NOT_HOLD
_UNDECIDED = Truth.UNDECIDED

SENTENCE_MOST = 200
"""A longer rule is cut off in a sentence; `mini-pacs rules explain` shows it whole."""

_NEGATED = {
    Truth.HOLDS: Truth.DOES_NOT_HOLD,
    Truth.DOES_NOT_HOLD: Truth.HOLDS,
    Truth.UNDECIDED: Truth.UNDECIDED,
}


class AcceptRule(Protocol):
    """A node of a rule. Equal rules are equal objects."""

    def decide(self, facts: Facts) -> Truth:
        """Return the outcome for an instance."""

    def nodes(self, depth: int = 0) -> "Iterator[tuple[int, AcceptRule]]":
        """Yield this node and the nodes below it, each with its depth, in the order of the file."""

    @property
    def words(self) -> str:
        """Say what the node asks, without the nodes below it."""

    @property
    def canonical(self) -> dict[str, object]:
        """The rule as a value of YAML or JSON: equal rules have equal values."""


@dataclass(frozen=True, slots=True)
class AttributeCondition:
    """A condition on the values of an attribute."""

    attribute: Attribute
    comparison: Comparison

    def decide(self, facts: Facts) -> Truth:
        """See `AcceptRule`."""
        values = facts.attributes.get(self.attribute.tag)
        if values is None:
            if facts.defect:
                return _UNDECIDED
            values = ()
        return self.comparison.decide(values)

    def met(self, facts: Facts) -> tuple[Value, ...] | None:
        """Return the values that the condition meets; None if the attribute is missing."""
        return facts.attributes.get(self.attribute.tag)

    def nodes(self, depth: int = 0) -> Iterator[tuple[int, AcceptRule]]:
        """See `AcceptRule`."""
        yield depth, self

    @property
    def words(self) -> str:
        """See `AcceptRule`."""
        return f"{self.attribute} {self.comparison.words}"

    @property
    def canonical(self) -> dict[str, object]:
        """See `AcceptRule`."""
        return {"attribute": self.attribute.keyword, self.comparison.key: self.comparison.operand}


class AssociationPart(StrEnum):
    """A part of the association or of the command; the text is the key in the file."""

    CALLING_AE = "calling_ae"
    CALLED_AE = "called_ae"
    SOP_CLASS = "sop_class"
    TRANSFER_SYNTAX = "transfer_syntax"


_NAMES = {
    AssociationPart.CALLING_AE: "the calling AE title",
    AssociationPart.CALLED_AE: "the called AE title",
    AssociationPart.SOP_CLASS: "the SOP Class",
    AssociationPart.TRANSFER_SYNTAX: "the transfer syntax",
}


@dataclass(frozen=True, slots=True)
class AssociationCondition:
    """A condition on an AE title, the SOP Class or the transfer syntax."""

    part: AssociationPart
    comparison: Comparison

    def decide(self, facts: Facts) -> Truth:
        """See `AcceptRule`."""
        return self.comparison.decide(self.met(facts))

    def met(self, facts: Facts) -> tuple[Value, ...]:
        """Return the value that the condition meets."""
        match self.part:
            case AssociationPart.CALLING_AE:
                return (facts.calling_ae,)
            case AssociationPart.CALLED_AE:
                return (facts.called_ae,)
            case AssociationPart.SOP_CLASS:
                return (facts.sop_class,)
            case AssociationPart.TRANSFER_SYNTAX:
                return (facts.transfer_syntax,)

    def nodes(self, depth: int = 0) -> Iterator[tuple[int, AcceptRule]]:
        """See `AcceptRule`."""
        yield depth, self

    @property
    def words(self) -> str:
        """See `AcceptRule`."""
        return f"{_NAMES[self.part]} {self.comparison.words}"

    @property
    def canonical(self) -> dict[str, object]:
        """See `AcceptRule`."""
        if self.comparison.key == "matches":
            return {self.part.value: {"matches": self.comparison.operand}}
        return {self.part.value: self.comparison.operand}


def _decide_together(rules: tuple[AcceptRule, ...], facts: Facts, *, decisive: Truth) -> Truth:
    """Return `decisive` if one rule gives it; else undecided if one is; else the opposite of `decisive`."""
    outcome = _NEGATED[decisive]
    for rule in rules:
        found = rule.decide(facts)
        if found is decisive:
            return found
        if found is _UNDECIDED:
            outcome = found
    return outcome


def _nodes_below(rules: tuple[AcceptRule, ...], depth: int) -> Iterator[tuple[int, AcceptRule]]:
    for rule in rules:
        yield from rule.nodes(depth + 1)


@dataclass(frozen=True, slots=True)
class All:
    """Each rule holds."""

    rules: tuple[AcceptRule, ...]

    def decide(self, facts: Facts) -> Truth:
        """See `AcceptRule`."""
        return _decide_together(self.rules, facts, decisive=_DOES_NOT_HOLD)

    def nodes(self, depth: int = 0) -> Iterator[tuple[int, AcceptRule]]:
        """See `AcceptRule`."""
        yield depth, self
        yield from _nodes_below(self.rules, depth)

    @property
    def words(self) -> str:
        """See `AcceptRule`."""
        return "all of these hold:"

    @property
    def canonical(self) -> dict[str, object]:
        """See `AcceptRule`."""
        return {"all": [rule.canonical for rule in self.rules]}


@dataclass(frozen=True, slots=True)
class Any:
    """At least one rule holds."""

    rules: tuple[AcceptRule, ...]

    def decide(self, facts: Facts) -> Truth:
        """See `AcceptRule`."""
        return _decide_together(self.rules, facts, decisive=_HOLDS)

    def nodes(self, depth: int = 0) -> Iterator[tuple[int, AcceptRule]]:
        """See `AcceptRule`."""
        yield depth, self
        yield from _nodes_below(self.rules, depth)

    @property
    def words(self) -> str:
        """See `AcceptRule`."""
        return "at least one of these holds:"

    @property
    def canonical(self) -> dict[str, object]:
        """See `AcceptRule`."""
        return {"any": [rule.canonical for rule in self.rules]}


@dataclass(frozen=True, slots=True)
class Not:
    """The rule does not hold."""

    rule: AcceptRule

    def decide(self, facts: Facts) -> Truth:
        """See `AcceptRule`."""
        return _NEGATED[self.rule.decide(facts)]

    def nodes(self, depth: int = 0) -> Iterator[tuple[int, AcceptRule]]:
        """See `AcceptRule`."""
        yield depth, self
        yield from self.rule.nodes(depth + 1)

    @property
    def words(self) -> str:
        """See `AcceptRule`."""
        return "this does not hold:"

    @property
    def canonical(self) -> dict[str, object]:
        """See `AcceptRule`."""
        return {"not": self.rule.canonical}


def attributes_of(rule: AcceptRule) -> tuple[Attribute, ...]:
    """Return the attributes that the rule asks for, each once."""
    found = (node.attribute for _, node in rule.nodes() if isinstance(node, AttributeCondition))
    return tuple(dict.fromkeys(found))


def sentence_of(rule: AcceptRule) -> str:
    """Say the rule in words on one line, cut off after SENTENCE_MOST characters."""
    text = ", ".join(line.strip() for line in lines_of(rule))
    return text if len(text) <= SENTENCE_MOST else f"{text[:SENTENCE_MOST]}…"


def lines_of(rule: AcceptRule) -> list[str]:
    """Say the rule in words, a line for each node, indented by its depth."""
    return [f"{'  ' * depth}{node.words}" for depth, node in rule.nodes()]
