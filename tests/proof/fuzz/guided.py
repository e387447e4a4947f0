"""`python -m proof.fuzz.guided`: each target under atheris for its share of the seconds, from the seeds on.

Each target has its own process, since libFuzzer ends the process. A finding is kept as a file in
build/fuzz/ and makes the exit code 1. atheris has no wheel for each Python; where it is not installed, the
program prints so and exits with 0.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from proof.fuzz.targets import TARGETS

KEPT = Path("build") / "fuzz"
MAX_BYTES = 4096
GRACE_SECONDS = 60


def fuzz(name: str, seconds: int, seed: int) -> None:
    """Turn this process into the fuzzer of one target."""
    import atheris  # noqa: PLC0415  an extra that few installations have

    with atheris.instrument_imports(include=["gateway"]):
        _forget_gateway()
        from proof.fuzz import seeds, targets  # noqa: PLC0415  instrumented while it is imported

    corpus = Path(tempfile.mkdtemp(prefix=f"mini-pacs-{name}-"))
    for number, raw in enumerate(seeds.SEEDS[name]):
        (corpus / str(number)).write_bytes(raw)
    KEPT.mkdir(parents=True, exist_ok=True)
    options = (
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-max_len={MAX_BYTES}",
        "-timeout=10",
        "-rss_limit_mb=1024",
        f"-artifact_prefix={KEPT}/{name}-",
        "-print_final_stats=1",
        str(corpus),
    )
    atheris.Setup([sys.argv[0], *options], targets.TARGETS[name])
    atheris.Fuzz()


def _forget_gateway() -> None:
    """Forget modules that were imported without instrumentation, so that they are imported again."""
    for name in [n for n in sys.modules if n.partition(".")[0] in {"gateway", "proof", "support"}]:
        if name not in {"proof", "proof.fuzz", "proof.fuzz.guided"}:
            del sys.modules[name]


def main() -> int:
    """Fuzz every target, or the named one; return the exit code."""
    parser = argparse.ArgumentParser(prog="proof.fuzz.guided")
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=list(TARGETS))
    arguments = parser.parse_args()
    if find_spec("atheris") is None:
        sys.stdout.write("skipped: atheris is not installed; see requirements-fuzz.txt\n")
        return 0
    if arguments.target:
        fuzz(arguments.target, arguments.seconds, arguments.seed)
        return 0
    share = max(1, arguments.seconds // len(TARGETS))
    return max([_run(name, share, arguments.seed) for name in TARGETS])


def _run(name: str, seconds: int, seed: int) -> int:
    words = [
        sys.executable,
        "-m",
        "proof.fuzz.guided",
        "--target",
        name,
        "--seconds",
        str(seconds),
        "--seed",
        str(seed),
    ]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=seconds + GRACE_SECONDS, env=os.environ
    )
    lines = done.stderr.splitlines()
    executed = next((line.split()[-1] for line in lines if "number_of_executed_units" in line), "0")
    features = next((line.split("cov: ")[1].split()[0] for line in reversed(lines) if "cov: " in line), "0")
    sys.stdout.write(
        f"{name:24} {int(executed):>9,} inputs, {features:>5} edges, exit code {done.returncode}\n"
    )
    sys.stdout.flush()
    if done.returncode:
        sys.stdout.write("\n".join(lines[-40:]) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
