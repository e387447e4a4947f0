"""Rules of `accepts` that could not be decided for an instance, or that send instances to no archive."""

from collections.abc import Iterator

from gateway.config import Configuration
from gateway.database.tables.overview import Overview
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.domain.routing import Route, Target
from gateway.rules.ruleset import RuleSet
from gateway.rules.tree import sentence_of
from gateway.times import moment, since

FEW = 3
"""Fewer instances say nothing about a rule."""


def undecided(view: Overview, configuration: Configuration) -> Iterator[Finding]:
    """Yield each target whose rule of now could not be decided lately."""
    rules = configuration.forwarder.rules
    for one in view.undecided:
        target = Target.of(one.target)
        rule = rules.rules.get(target)
        if rule is None or bytes(one.rules) != rules.digest:
            continue  # it was changed since
        is_archive = target.route.is_archive
        make = note if is_archive or one.instances < FEW else problem
        yield make(
            f"rules.undecided:{one.target}",
            f"The rule of {one.target} could not be decided for {one.instances:,} instances, the last "
            f"{since(one.newest_at, view.now)} ago: it accepts {sentence_of(rule)}, and a value that it asks "
            "for cannot be read",
            "it got these instances all the same" if is_archive else "it did not get these instances",
            f"`mini-pacs rules explain {one.newest}` says which attribute; mend the sender, or let `accepts` "
            "ask for another attribute, and `mini-pacs config reload`",
            since=one.newest_at,
            holds=Holds.SOME if is_archive else Holds.WORKERS,
        )


def nowhere(view: Overview, configuration: Configuration) -> Iterator[Finding]:
    """Yield what the rules of now sent to no archive: a problem if that is everything."""
    found, rules = view.nowhere, configuration.forwarder.rules
    if found is None or bytes(found.rules) != rules.digest:
        return  # the rules were changed since
    is_all = found.nowhere == found.decided and found.decided >= FEW
    count = f"all {found.nowhere:,}" if is_all else f"{found.nowhere:,} of {found.decided:,}"
    make = problem if is_all else note
    yield make(
        "rules.nowhere",
        f"The rules sent {count} instances since {moment(found.first_at)} to no archive, the last from "
        f"{found.calling_ae_title}: {_accepts(rules)}",
        "they are answered Success, kept for sweep.retention_hours, and then deleted; no archive has them",
        f"`mini-pacs rules explain {found.newest}` says which condition did not hold; correct `accepts` in "
        f"{configuration.source}, `mini-pacs config reload`, and send them again",
        since=found.first_at,
        holds=Holds.PACS if is_all else Holds.SOME,
    )


def _accepts(rules: RuleSet) -> str:
    """Return what each archive with a rule accepts, in words."""
    return "; ".join(
        f"{target.name} accepts {sentence_of(rule)}"
        for target, rule in rules.rules.items()
        if rule is not None and target.route is not Route.WORKERS
    )
