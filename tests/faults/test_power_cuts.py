"""A short form of `make power-cuts`: some power cuts on each kind of disk; nothing acknowledged is lost.

The last test lets the disks lie about flushes: the program finds that instances are lost.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from proof.power_cuts.__main__ import KINDS
from proof.power_cuts.machine import missing
from support.edge_setup import TESTS
from support.launcher import REPOSITORY, Processes

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G2"), pytest.mark.guarantee("G6")]

SEED = os.environ.get("POWER_CUTS_SEED", "1")
CUTS = {"forgetful": 6, "ext4": 3, "xfs": 3}
LYING_CUTS = {"forgetful": 2, "ext4": 3}
SECONDS = 150.0
"""Each takes about 15 on a quiet machine."""


def run(processes: Processes, folder: Path, *words: str, seed: str = SEED) -> tuple[int, dict[str, Any], str]:
    """Run the program; return its exit code, its report, and its output."""
    report = folder / "report.json"
    path = {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{TESTS}"}
    command = ("-m", "proof.power_cuts", *words, "--rounds", "1", "--seed", seed, "--json", str(report))
    program = processes.start("python", *command, **path)
    code = program.popen.wait(SECONDS)
    assert report.exists(), program.text()[-8000:]
    return code, json.loads(report.read_text()), program.text()[-8000:]


def skip_without(kind: str) -> None:
    """Skip where the machine cannot do it; in CI the programs must be there."""
    if reason := missing(kind):
        assert "CI" not in os.environ or "install" not in reason, reason
        pytest.skip(reason)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_acknowledged_is_lost_in_a_power_cut(processes: Processes, tmp_path: Path, kind: str) -> None:
    """G1, G2, G6: it is registered and delivered byte for byte, and nothing incomplete is."""
    skip_without(kind)
    code, report, output = run(processes, tmp_path, kind, "--cuts", str(CUTS[kind]))
    assert code == 0, output
    assert sum(len(one["cuts"]) for one in report["runs"]) >= CUTS[kind]
    if kind == "forgetful":  # the few cuts of a record may all come before the first answer
        assert sum(one["acknowledged"] for one in report["runs"]) > 0
    assert not report["skipped"]


@pytest.mark.timeout(4 * SECONDS)
@pytest.mark.parametrize("kind", list(LYING_CUTS))
def test_a_disk_that_lies_about_flushes_loses_instances(
    processes: Processes, tmp_path: Path, kind: str
) -> None:
    """The check can fail. A few cuts may find everything delivered already, so others are made then."""
    skip_without(kind)
    words = ("--cuts", str(LYING_CUTS[kind]), "--lying-disk", "--patience", "5")
    for seed in (SEED, f"{SEED}1", f"{SEED}2", f"{SEED}3"):
        code, report, output = run(processes, tmp_path, kind, *words, seed=seed)
        assert code == (1 if report["violations"] else 0), output
        if report["violations"]:
            return
    raise AssertionError(f"nothing was lost in {LYING_CUTS[kind]} cuts of four seeds: {output}")
