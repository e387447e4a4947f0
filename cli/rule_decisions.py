"""Explain a decision: what the rules said at the reception of an instance, and what they say now."""

import json
from dataclasses import dataclass
from datetime import datetime

from cli.advice import RefusedError
from cli.rule_files import TestedTarget, facts_in, tested
from gateway.config import Configuration
from gateway.database.tables.decisions import KeptDecision
from gateway.domain.instance import Kind
from gateway.domain.routing import Route, Target
from gateway.rules.errors import RuleError
from gateway.rules.language import parse
from gateway.rules.ruleset import RuleSet
from gateway.spool.spool import Spool


@dataclass(frozen=True, slots=True)
class TargetDecision:
    """What became of one target.

    `then` is `accepted`, `refused`, `not asked` (it did not exist, or `why` says why), or `everything`
    (no target had a rule); `undecided` if its rule could not be decided. `now` is what would be decided now;
    None if the file cannot be read.
    """

    target: str
    then: str
    undecided: bool
    now: str | None
    owed: bool
    why: str


@dataclass(frozen=True, slots=True)
class ExplainedDecision:
    """The decision about one version of a SOP Instance UID.

    `then` and `now` are the rules with their conditions, evaluated on the stored file. `then` is empty if the
    rules of the reception are not known any more; `note` says what could not be explained.
    """

    received_at: datetime
    kind: Kind
    calling_ae: str
    called_ae: str
    digest_then: str | None
    digest_now: str
    first_used: datetime | None
    targets: list[TargetDecision]
    then: list[TestedTarget]
    now: list[TestedTarget]
    note: str


def explained(configuration: Configuration, kept: KeptDecision) -> ExplainedDecision:
    """Return the decision at the reception, and the decision of today's rules."""
    notes: list[str] = []
    rules_now = configuration.forwarder.rules
    rules_then = _rules_then(kept, notes)
    path = Spool(configuration.edge.data_root).path(kept.place, kept.study_instance_uid, kept.file_name)
    then: list[TestedTarget] = []
    now: list[TestedTarget] = []
    try:
        asked = {**rules_now.asked, **({} if rules_then is None else rules_then.asked)}
        facts = facts_in(path, asked, calling_ae=kept.calling_ae_title, called_ae=kept.called_ae_title)
        now = [tested(str(target), rules_now, rule, facts) for target, rule in rules_now.rules.items()]
        if rules_then is not None:
            then = [tested(str(target), rules_then, rule, facts) for target, rule in rules_then.rules.items()]
    except RefusedError as error:
        notes.append(f"the stored file cannot be evaluated: {error}")
    return ExplainedDecision(
        received_at=kept.received_at,
        kind=kept.kind,
        calling_ae=kept.calling_ae_title,
        called_ae=kept.called_ae_title,
        digest_then=kept.digest.hex() if kept.digest is not None else None,
        digest_now=rules_now.digest.hex(),
        first_used=kept.first_used,
        targets=list(_targets(configuration, kept, now)),
        then=then,
        now=now,
        note="; ".join(notes),
    )


def _rules_then(kept: KeptDecision, notes: list[str]) -> RuleSet | None:
    if not kept.by_rules:
        notes.append("no target had a rule at its reception")
        return None
    if not kept.rules:
        notes.append("the text of the rules of its reception is not kept, because the database was rebuilt")
        return None
    try:
        return RuleSet(
            {
                Target.of(name): None if rule is None else parse(rule)
                for name, rule in json.loads(kept.rules).items()
            }
        )
    except (RuleError, ValueError) as error:
        notes.append(f"the rules of its reception are of a form that this version does not know: {error}")
        return None


def _targets(
    configuration: Configuration, kept: KeptDecision, now: list[TestedTarget]
) -> list[TargetDecision]:
    forwarder = configuration.forwarder
    by_name = {one.target: one for one in now}
    asked_now = {str(target) for target in forwarder.targets.of(kept.kind, forwarder.mode)}
    names = dict.fromkeys((*map(str, forwarder.targets.all), *kept.accepted, *kept.refused, *kept.owed))
    found = []
    for name in names:
        of_now: str | None
        if name not in by_name:
            of_now = "no longer configured" if now else None
        elif name not in asked_now:
            of_now = "not asked"
        else:
            of_now = "accepted" if by_name[name].accepted else "refused"
        found.append(
            TargetDecision(
                target=name,
                then=_then(kept, name),
                undecided=name in kept.undecided,
                now=of_now,
                owed=name in kept.owed,
                why=""
                if name in asked_now or name not in by_name
                else _why_not_asked(configuration, kept, name),
            )
        )
    return found


def _then(kept: KeptDecision, name: str) -> str:
    if not kept.by_rules:
        return "accepted" if name in kept.owed else "not asked"
    if name in kept.accepted:
        return "accepted"
    return "refused" if name in kept.refused else "not asked"


def _why_not_asked(configuration: Configuration, kept: KeptDecision, name: str) -> str:
    if kept.kind is Kind.RESULT:
        if Target.of(name).route is Route.WORKERS:
            return "results go to no application"
        return "it has results: false"
    return f"forwarder.mode is {configuration.forwarder.mode}"
