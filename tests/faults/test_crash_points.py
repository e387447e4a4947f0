"""A seeded sample of `make crash-points`: a crash at a point, a restart, and a ledger that closes.

CRASH_POINTS_SEED chooses the points; `make crash-points` runs all of them.
"""

import json
import os
from pathlib import Path

import pytest
from proof.crash_points.flows import SCENARIOS
from support.edge_setup import TESTS
from support.launcher import REPOSITORY, Processes

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G2"), pytest.mark.guarantee("G6")]

POINTS = 30
SEED = os.environ.get("CRASH_POINTS_SEED", "1")
SECONDS = 300.0
"""A sample takes 60 on a quiet machine."""


def test_nothing_is_lost_after_a_crash_at_any_sampled_point(processes: Processes, tmp_path: Path) -> None:
    """G1, G2, G6: run each flow without a crash, then with some crashes in each; nothing is lost."""
    report = tmp_path / "report.json"
    words = ("--sample", str(POINTS), "--seed", SEED, "--json", report)
    path = {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{TESTS}"}
    campaign = processes.start("python", "-m", "proof.crash_points", *words, **path)
    assert campaign.popen.wait(SECONDS) == 0, campaign.text()[-8000:]
    runs = json.loads(report.read_text())["runs"]
    assert {run["scenario"] for run in runs if run["site"]} == {scenario.name for scenario in SCENARIOS}
    assert len(runs) == POINTS + len(SCENARIOS)
    assert not [run for run in runs if run["deviations"]]
