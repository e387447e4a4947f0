"""Evaluate rules on a file, condition by condition."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.advice import RefusedError
from gateway.dicom.dataset.header import facts_of, read_header
from gateway.dicom.dataset.part10 import read_file_meta
from gateway.errors import DataSetError
from gateway.rules.dictionary import Attribute
from gateway.rules.facts import Facts, Truth, Undecodable, Value
from gateway.rules.ruleset import RuleSet, accepts
from gateway.rules.tree import AcceptRule, AssociationCondition, AttributeCondition

META_BYTES = 64 * 1024
"""How much of a file is read to find its data set."""


@dataclass(frozen=True, slots=True)
class TestedCondition:
    """One node of a rule: its words, the values that it met, and its outcome.

    `values` is None where the node compares nothing, or the attribute is missing; `missing` tells which.
    """

    depth: int
    words: str
    values: list[str | int | float] | None
    missing: bool
    outcome: Truth


@dataclass(frozen=True, slots=True)
class TestedTarget:
    """What the rule of one target says of a file; no conditions if it accepts everything."""

    target: str
    outcome: Truth
    accepted: bool
    conditions: list[TestedCondition]


@dataclass(frozen=True, slots=True)
class TestedFile:
    """What all rules say of a file. `calling_ae` is empty if neither file nor operator name one."""

    file: str
    calling_ae: str
    called_ae: str
    defect: str
    targets: list[TestedTarget]


def evaluate(path: Path, rules: RuleSet, *, calling_ae: str | None, called_ae: str) -> TestedFile:
    """Evaluate all rules on a file; `calling_ae` replaces the AE title in the file.

    Raises:
        RefusedError: it is no readable Part 10 file.
    """
    facts = facts_in(path, rules.asked, calling_ae=calling_ae, called_ae=called_ae)
    targets = [tested(str(target), rules, target_rule, facts) for target, target_rule in rules.rules.items()]
    return TestedFile(str(path), facts.calling_ae, facts.called_ae, facts.defect, targets)


def facts_in(path: Path, asked: Mapping[int, Attribute], *, calling_ae: str | None, called_ae: str) -> Facts:
    """Return what the rules may ask of a file.

    Raises:
        RefusedError: it is no readable Part 10 file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            meta = read_file_meta(os.pread(descriptor, META_BYTES, 0))
            header = read_header(
                descriptor,
                meta.data_set_offset,
                meta.transfer_syntax_uid,
                with_references=False,
                asked=asked,
            )
        finally:
            os.close(descriptor)
    except DataSetError as error:
        raise RefusedError(f"{path}: {error}; rules are evaluated on DICOM Part 10 files") from error
    except OSError as error:
        raise RefusedError(f"cannot read {path}: {error.strerror}") from error
    return facts_of(
        header,
        calling_ae_title=meta.source_ae_title if calling_ae is None else calling_ae,
        called_ae_title=called_ae,
        transfer_syntax_uid=meta.transfer_syntax_uid,
    )


def tested(name: str, rules: RuleSet, rule: AcceptRule | None, facts: Facts) -> TestedTarget:
    """Return what a rule says, with each of its conditions."""
    target = next(one for one in rules.rules if str(one) == name)
    truth = rules.truth(target, facts)
    nodes = [] if rule is None else [_condition(depth, node, facts) for depth, node in rule.nodes()]
    return TestedTarget(name, truth, accepts(target, truth), nodes)


def _condition(depth: int, node: AcceptRule, facts: Facts) -> TestedCondition:
    values: tuple[Value, ...] | None = None
    compares = isinstance(node, AttributeCondition | AssociationCondition)
    if isinstance(node, AttributeCondition | AssociationCondition):
        values = node.met(facts)
    shown = None if values is None else [_shown(value) for value in values]
    return TestedCondition(depth, node.words, shown, compares and values is None, node.decide(facts))


def _shown(value: Value) -> str | int | float:
    return f"(not decodable: {value.reason})" if isinstance(value, Undecodable) else value
