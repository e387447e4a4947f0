"""`python -m proof.power_cuts`: cut the power at many moments, and count what was acknowledged.

Exit codes: 0 nothing is lost; 1 something is; 2 usage; 3 this machine can do none of it.
"""

import argparse
import gc
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from proof.power_cuts import report
from proof.power_cuts.forgetful_nodes import Names
from proof.power_cuts.forgetful_trials import KIND, ForgetfulTrials
from proof.power_cuts.machine import MAKE, enter_namespace, missing
from proof.power_cuts.recorded_trials import RecordedTrials
from proof.power_cuts.trial import Trial

KINDS = (KIND, *MAKE)


def say(line: str) -> None:
    """Print without buffering."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="proof.power_cuts", description="cut the power under the edge, and count"
    )
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"of {', '.join(KINDS)}; all")
    parser.add_argument("--cuts", type=int, default=40, help="so many cuts of each kind (40)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--names", choices=list(Names), action="append", help="what a cut may do to names")
    parser.add_argument("--rounds", type=int, default=4, help="how often the load is recorded (4)")
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds until the edge must be quiet (60)"
    )
    parser.add_argument(
        "--lying-disk", action="store_true", help="flushes do nothing: violations must follow"
    )
    parser.add_argument("--json", type=Path, help="where the report goes, as JSON")
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(KINDS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    arguments.kinds = arguments.kinds or list(KINDS)
    return arguments


def main() -> int:
    """Do one run; return the exit code."""
    arguments = _arguments()
    skipped = {kind: reason for kind in arguments.kinds if (reason := missing(kind))}
    if len(skipped) == len(arguments.kinds):
        say("\n".join(f"SKIPPED: {kind}: {reason}" for kind, reason in skipped.items()))
        return 3
    enter_namespace()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that PostgreSQL ends with this program
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-power-"))
    folder.chmod(0o711)  # PostgreSQL's user must be able to enter the folder
    gc.freeze()  # the garbage collector of a forked child need not visit inherited objects
    trials: list[Trial] = []
    try:
        for kind in arguments.kinds:
            if kind in skipped:
                continue
            (folder / kind).mkdir(mode=0o711)
            walk = _forgetful if kind == KIND else _recorded
            for trial in walk(kind, folder / kind, arguments):
                trials.append(trial)
                say(report.line_of(trial))
            shutil.rmtree(folder / kind)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - began
    say(report.as_text(trials, skipped, seconds))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        options = {"seed": arguments.seed, "cuts": arguments.cuts, "lying_disk": arguments.lying_disk}
        text = json.dumps(report.as_json(trials, skipped, seconds, options), indent=1)
        arguments.json.write_text(text + "\n")
        say(f"report: {arguments.json}")
    return 1 if any(trial.violations for trial in trials) else 0


def _forgetful(_kind: str, folder: Path, arguments: argparse.Namespace) -> Iterator[Trial]:
    names = tuple(map(Names, arguments.names or (Names.JOURNAL, Names.PER_FILE)))
    trials = ForgetfulTrials(
        folder, names=names, seed=arguments.seed, lies=arguments.lying_disk, patience=arguments.patience
    )
    try:
        steps, whole = trials.steps()
        say(f"{KIND}: {steps} steps until it is quiet")
        yield whole
        every = max(1, steps // arguments.cuts)
        first = Random(arguments.seed).randint(1, every)  # noqa: S311  repeatable, no secret
        for step in range(first, steps + 1, every)[: arguments.cuts]:
            yield trials.at(step)
    finally:
        trials.close()


def _recorded(kind: str, folder: Path, arguments: argparse.Namespace) -> Iterator[Trial]:
    trials = RecordedTrials(
        kind,
        folder,
        rounds=arguments.rounds,
        seed=arguments.seed,
        lies=arguments.lying_disk,
        patience=arguments.patience,
    )
    say(trials.record())
    yield from trials.cuts(arguments.cuts)


if __name__ == "__main__":
    sys.exit(main())
