"""The report of a run: a table by kind as text, and JSON."""

import platform
from datetime import UTC, datetime
from typing import Any

from proof.power_cuts.trial import Trial

SHOWN = 20
"""Printed violations of one trial; the JSON has all."""


def line_of(trial: Trial) -> str:
    """Return one line for the result of a trial."""
    word = f"{len(trial.violations)} VIOLATIONS" if trial.violations else "nothing lost"
    where = "; then ".join(trial.cuts)
    return f"{trial.kind:10} {trial.acknowledged:3} acknowledged  {trial.seconds:5.1f} s  {word:14} {where}"


def as_text(trials: list[Trial], skipped: dict[str, str], seconds: float) -> str:
    """Return the violations in full, then a line for each kind and the verdict."""
    lines = []
    for trial in trials:
        if trial.violations:
            lines += [
                "",
                line_of(trial),
                *(f"    {one}" for one in trial.violations[:SHOWN]),
                *[f"    … and {len(trial.violations) - SHOWN} more"] * (len(trial.violations) > SHOWN),
                trial.output,
            ]
    lines.append("")
    for kind in dict.fromkeys(trial.kind for trial in trials):
        of = [trial for trial in trials if trial.kind == kind]
        wrong = sum(bool(trial.violations) for trial in of)
        acknowledged = sum(trial.acknowledged for trial in of)
        lines.append(
            f"{kind:10} {len(of):4} runs, {sum(len(trial.cuts) for trial in of):4} cuts and kills,"
            f" {acknowledged:6} times an instance was acknowledged before them, {wrong} runs with violations"
        )
    lines += [f"NOT PROVEN by this run: {kind}: {reason}" for kind, reason in skipped.items()]
    wrong = sum(bool(trial.violations) for trial in trials)
    lines.append(f"{len(trials)} runs in {seconds:.0f} s")
    lines.append(
        f"FAILED: {wrong} runs with violations"
        if wrong
        else "PASSED: everything acknowledged was registered and delivered"
    )
    return "\n".join(lines)


def as_json(
    trials: list[Trial], skipped: dict[str, str], seconds: float, options: dict[str, Any]
) -> dict[str, Any]:
    """Return every trial."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}",
        **options,
        "seconds": round(seconds, 1),
        "skipped": skipped,
        "violations": sum(bool(trial.violations) for trial in trials),
        "runs": [
            {
                "kind": trial.kind,
                "cuts": trial.cuts,
                "acknowledged": trial.acknowledged,
                "seconds": round(trial.seconds, 2),
                "violations": trial.violations,
            }
            for trial in trials
        ],
    }
