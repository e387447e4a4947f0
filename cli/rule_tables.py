"""Print rules in words, and their conditions with the values that they met."""

from collections.abc import Sequence

from rich.console import Console

from cli.rule_decisions import ExplainedDecision
from cli.rule_files import TestedCondition, TestedFile, TestedTarget
from cli.screen import table
from gateway.rules.facts import Truth
from gateway.rules.ruleset import RuleSet
from gateway.rules.tree import lines_of
from gateway.times import moment

EVERYTHING = "accepts everything: it has no rule"
MAX_SHOWN = 200


def print_rules(screen: Console, rules: RuleSet) -> None:
    """Print each target with its rule."""
    for target, rule in rules.rules.items():
        screen.print(f"\n{_name(str(target))}")
        for line in [EVERYTHING] if rule is None else lines_of(rule):
            screen.print(f"  {line}")
    screen.print()


def print_file(screen: Console, one: TestedFile) -> None:
    """Print a file with a row for each condition of each rule."""
    caller = one.calling_ae or "nobody: give --calling-aet"
    screen.print(_targets_table(one.targets, f"{one.file}, called by {caller}, as {one.called_ae}"))
    if one.defect:
        screen.print(f"! The data set is broken, so that not all attributes could be read: {one.defect}")
    screen.print()


def print_decision(screen: Console, sop_instance_uid: str, one: ExplainedDecision) -> None:
    """Print the decision about an instance at its reception, and the decision of today's rules."""
    title = (
        f"{one.kind.value} {sop_instance_uid}, received {moment(one.received_at)} from {one.calling_ae} "
        f"as {one.called_ae}"
    )
    rows = table("target", "at its reception", "with the rules of now", "delivery", "", title=title)
    for target in one.targets:
        rows.add_row(
            _name(target.target),
            target.then + (" (its rule could not be decided)" if target.undecided else ""),
            "" if target.now is None else target.now,
            "yes" if target.owed else "none",
            target.why,
        )
    screen.print(rows)
    if one.note:
        screen.print(f"· {one.note}")
    if one.then:
        since = "" if one.first_used is None else f", first used {moment(one.first_used)}"
        screen.print()
        screen.print(
            _targets_table(one.then, f"The rules of its reception: version {one.digest_then}{since}")
        )
    if one.now and one.digest_now != one.digest_then:
        screen.print()
        screen.print(_targets_table(one.now, f"The rules of now: version {one.digest_now}"))
    screen.print()


def _targets_table(targets: Sequence[TestedTarget], title: str) -> object:
    rows = table("target", "condition", "value met", "outcome", title=title)
    for target in targets:
        rows.add_row(_name(target.target), "" if target.conditions else EVERYTHING, "", verdict(target))
        for condition in target.conditions:
            words = f"{'  ' * condition.depth}{condition.words}"
            rows.add_row("", words, _met(condition), condition.outcome.value)
    return rows


def verdict(target: TestedTarget) -> str:
    """Say whether the target gets the instance."""
    if target.outcome is Truth.UNDECIDED:
        return f"cannot be decided: {'gets it' if target.accepted else 'does not get it'}"
    return "gets it" if target.accepted else "does not get it"


def _met(condition: TestedCondition) -> str:
    if condition.missing:
        return "(missing)"
    if condition.values is None:
        return ""
    if not condition.values:
        return "(empty)"
    text = "\\".join(f"{one:g}" if isinstance(one, float) else str(one) for one in condition.values)
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…"


def _name(target: str) -> str:
    route, _, name = target.partition(":")
    return {"pacs": f"PACS {name}", "archives": f"archive {name}"}.get(route, f"application {name}")
