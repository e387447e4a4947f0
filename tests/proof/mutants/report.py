"""Which peer accepts what: as Markdown, and as JSON."""

import re
from collections import Counter, defaultdict
from typing import Any

from proof.mutants.dataset import SYNTAXES
from proof.mutants.run import Outcome
from proof.mutants.targets import ABORTED, TAKEN, Mutant

PEERS = ("Orthanc", "storescp")
EXAMPLES = 5
_NAMES = {uid: name for name, uid in SYNTAXES.items()}


def disagreements(outcome: Outcome) -> dict[tuple[str, str, str], list[Mutant]]:
    """Return what both peers accept and the edge refuses, or the reverse, by side, kind and reason."""
    found: dict[tuple[str, str, str], list[Mutant]] = defaultdict(list)
    for mutant in outcome.mutants:
        theirs = {outcome.answers[name][mutant.number] == TAKEN for name in PEERS if name in outcome.answers}
        ours = outcome.answers["edge"][mutant.number]
        if theirs == {ours != TAKEN}:
            side = "edge takes, peers refuse" if ours == TAKEN else "edge refuses, peers take"
            said = _skeleton(ours) if ours != TAKEN else _of_peers(outcome, mutant)
            found[side, mutant.kind, said].append(mutant)
    return dict(sorted(found.items()))


def _of_peers(outcome: Outcome, mutant: Mutant) -> str:
    said = {outcome.answers[name][mutant.number] for name in PEERS if name in outcome.answers}
    return ABORTED if said == {ABORTED} else " / ".join(sorted(map(_skeleton, said)))


def _skeleton(answer: str) -> str:
    """Return the answer without the parts that differ between data sets."""
    return re.sub(r"\([0-9A-F]{4},[0-9A-F]{4}\)", "(tag)", re.sub(r"byte \d+", "byte N", answer))


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return everything but the bytes, which the seed makes again."""
    return {
        "count": len(outcome.mutants),
        "seed": outcome.seed,
        "seconds": round(outcome.seconds, 1),
        "violations": outcome.violations,
        "crashes": outcome.crashes,
        "kinds": _counts(outcome),
        "disagreements": [
            {
                "side": side,
                "kind": kind,
                "why": why,
                "count": len(mutants),
                "syntaxes": dict(Counter(_NAMES[m.plan.transfer_syntax_uid] for m in mutants)),
                "examples": [mutant.number for mutant in mutants[:EXAMPLES]],
            }
            for (side, kind, why), mutants in disagreements(outcome).items()
        ],
    }


def _counts(outcome: Outcome) -> dict[str, dict[str, int]]:
    """Return of each kind how many there were, and how many each target accepted."""
    counts: dict[str, dict[str, int]] = {}
    for mutant in outcome.mutants:
        row = counts.setdefault(mutant.kind, {"sent": 0} | dict.fromkeys(outcome.answers, 0))
        row["sent"] += 1
        for name, answers in outcome.answers.items():
            row[name] += answers[mutant.number] == TAKEN
    return counts


def as_markdown(outcome: Outcome) -> str:
    """Return the tables."""
    names = list(outcome.answers)
    taken = sum(answer == TAKEN for answer in outcome.answers["edge"].values())
    summary = (
        f"{len(outcome.mutants):,} data sets, seed {outcome.seed}, {outcome.seconds:.0f} s; the edge took "
        f"{taken:,}; violations: {len(outcome.violations)}"
    )
    lines = [
        summary,
        *(f"- {violation}" for violation in outcome.violations[:20]),
        "",
        f"| kind | sent | {' | '.join(names)} |",
        f"|---|---{'|---' * len(names)}|",
    ]
    for kind, row in _counts(outcome).items():
        lines.append(f"| {kind} | {row['sent']} | {' | '.join(str(row[name]) for name in names)} |")
    lines += [
        "",
        "| who | kind | why | count | transfer syntaxes | for example |",
        "|---|---|---|---|---|---|",
    ]
    for (side, kind, why), mutants in disagreements(outcome).items():
        syntaxes = Counter(_NAMES[m.plan.transfer_syntax_uid] for m in mutants)
        said = ", ".join(f"{name} {count}" for name, count in syntaxes.items())
        lines.append(f"| {side} | {kind} | {why} | {len(mutants)} | {said} | {mutants[0].number} |")
    return "\n".join(lines)
