"""The rules of all targets as one version, and their decision about an instance.

A target without a rule accepts everything. If a rule cannot be decided, an archive accepts the instance, so
that it misses nothing. An application does not, so that it gets only instances that it was made for.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.domain.routing import Target
from gateway.rules.facts import Facts, Truth, Undecodable
from gateway.rules.tree import AcceptRule, AttributeCondition, attributes_of

DIGEST_BYTES = 16
NO_RULES = bytes(DIGEST_BYTES)
"""The digest where no target has a rule."""


@dataclass(frozen=True, slots=True)
class RulesDecision:
    """The targets that get an instance, and those that refused it.

    `undecided` are the targets whose rule could not be decided: archives among `accepted`, applications among
    `refused`.
    """

    accepted: tuple[Target, ...]
    refused: tuple[Target, ...] = ()
    undecided: tuple[Target, ...] = ()


class RuleSet:
    """The rules of one configuration. Immutable, and safe across threads."""

    def __init__(self, rules: Mapping[Target, AcceptRule | None]) -> None:
        self.rules = dict(rules)
        self.asked = {
            asked.tag: asked
            for rule in self.rules.values()
            if rule is not None
            for asked in attributes_of(rule)
        }
        self.has_rules = any(rule is not None for rule in self.rules.values())
        self.text = text_of_rules(self.rules) if self.has_rules else ""
        self.digest = (
            hashlib.sha256(self.text.encode()).digest()[:DIGEST_BYTES] if self.has_rules else NO_RULES
        )

    def decide(self, candidates: Iterable[Target], facts: Facts) -> RulesDecision:
        """Return which of the targets get the instance. An error in a rule leaves it undecided."""
        candidates = tuple(candidates)
        if not self.has_rules:
            return RulesDecision(candidates)
        accepted, refused, undecided = [], [], []
        for target in candidates:
            truth = self.truth(target, facts)
            if truth is Truth.UNDECIDED:
                undecided.append(target)
            if accepts(target, truth):
                accepted.append(target)
            else:
                refused.append(target)
        return RulesDecision(tuple(accepted), tuple(refused), tuple(undecided))

    def truth(self, target: Target, facts: Facts) -> Truth:
        """Return what the rule of a target says; a target without a rule accepts everything."""
        rule = self.rules.get(target)
        if rule is None:
            return Truth.HOLDS
        try:
            return rule.decide(facts)
        except Exception:  # noqa: BLE001  an unforeseen value must not refuse the instance
            return Truth.UNDECIDED

    def why_undecided(self, target: Target, facts: Facts) -> str:
        """Return the attributes that could not be decided, and why, without their values."""
        rule = self.rules.get(target)
        reasons = [] if rule is None else list(dict.fromkeys(_reasons(rule, facts)))
        return "; ".join(reasons) or "an error in its evaluation"


def accepts(target: Target, truth: Truth) -> bool:
    """Tell whether a target gets an instance of which its rule says `truth`."""
    return truth is Truth.HOLDS or (truth is Truth.UNDECIDED and target.route.is_archive)


def text_of_rules(rules: Mapping[Target, AcceptRule | None]) -> str:
    """Return the rules as JSON in a fixed form, of which the digest is made."""
    return json.dumps(
        {
            str(target): None if rule is None else rule.canonical
            for target, rule in sorted(rules.items(), key=lambda one: str(one[0]))
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def _reasons(rule: AcceptRule, facts: Facts) -> Iterable[str]:
    for _, node in rule.nodes():
        if not isinstance(node, AttributeCondition) or node.decide(facts) is not Truth.UNDECIDED:
            continue
        values = node.met(facts)
        if values is None:
            yield f"{node.attribute} was not reached: {facts.defect}"
        else:
            undecodable = [one.reason for one in values if isinstance(one, Undecodable)]
            reason = undecodable[0] if undecodable else f"is no {node.attribute.compared_as}"
            yield f"{node.attribute} {reason}"
