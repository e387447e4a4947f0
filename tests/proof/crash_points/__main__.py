"""`python -m proof.crash_points`: run every crash point, or a seeded sample of them.

Exit codes: 0 every ledger closes; 1 one does not; 2 usage.
"""

import argparse
import gc
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.lab.postgres import EmbeddedPostgres
from proof.crash_points import report
from proof.crash_points.environment import Environment
from proof.crash_points.flows import SCENARIOS
from proof.crash_points.trials import TrialResult, Trials


def say(line: str) -> None:
    """Print without buffering."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run one campaign; return the exit code."""
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(
        prog="proof.crash_points", description="die at every crash point, and count"
    )
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=f"of {', '.join(names)}; all")
    parser.add_argument("--sample", type=int, help="so many points, chosen by the seed, of all scenarios")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the report goes, as JSON")
    arguments = parser.parse_args()
    unknown = set(arguments.scenarios) - set(names)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-campaign-"))
    folder.chmod(0o711)  # as root: PostgreSQL's user must be able to enter the folder
    gc.freeze()  # the garbage collector of a forked child need not visit inherited objects
    postgres = EmbeddedPostgres(folder / "postgres")
    results: list[TrialResult] = []
    try:
        postgres.start()
        environment = Environment(folder / "environment", postgres)
        for one in _walk(environment, arguments):
            results.append(one)
            word = "NOT CLOSED" if one.deviations else "closed" if one.site else "closed, no crash"
            say(f"{one.scenario:16} {one.point or '-'!s:18} {one.seconds:5.1f} s  {word:10} {one.site}")
            for deviation in one.deviations:
                say(f"    {deviation}")
    finally:
        postgres.remove()
        shutil.rmtree(folder)
    seconds = time.monotonic() - began
    say(report.as_text(results, seconds))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        seed = arguments.seed if arguments.sample else None
        arguments.json.write_text(json.dumps(report.as_json(results, seconds, seed), indent=1) + "\n")
        say(f"report: {arguments.json}")
    return 1 if any(one.deviations for one in results) else 0


def _walk(environment: Environment, arguments: argparse.Namespace) -> Iterator[TrialResult]:
    chosen = [one for one in SCENARIOS if not arguments.scenarios or one.name in arguments.scenarios]
    generator = random.Random(arguments.seed)  # noqa: S311  repeatable, no secret
    left = arguments.sample
    for index, scenario in enumerate(chosen):
        trials = Trials(environment, scenario)
        dry = trials.dry()
        say(f"{scenario.name}: {len(trials.points())} points")
        yield dry
        if left is None:
            yield from trials.all()
            continue
        share = left // (len(chosen) - index)  # an equal share of the rest for each flow
        left -= share
        for point in generator.sample(trials.points(), min(share, len(trials.points()))):
            yield trials.at(point)


if __name__ == "__main__":
    sys.exit(main())
