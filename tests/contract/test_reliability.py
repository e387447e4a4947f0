"""docs/reliability.md names the flow and the test of each crash point."""

import re

from proof.crash_points.flows import SCENARIOS
from support.launcher import REPOSITORY

FLOWS, TEST = -2, -1
"""Columns of the table of crash points."""


def _rows() -> list[list[str]]:
    """Return the cells of the table of crash points."""
    text = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")
    table = re.search(r"^\| dies at .*?\n\|[-|]+\n(.*?)\n\n", text, re.DOTALL | re.MULTILINE)
    assert table is not None
    return [line.strip("| ").split(" | ") for line in table[1].splitlines()]


def test_each_crash_point_names_its_flow_and_its_test() -> None:
    """Both exist, and no flow is missing."""
    paths = (REPOSITORY / "tests").rglob("test_*.py")
    known = {
        name for path in paths for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    flows = {scenario.name for scenario in SCENARIOS}
    named: set[str] = set()
    for row in _rows():
        here = set(re.findall(r"`(\w+)`", row[FLOWS]))
        tests = re.findall(r"`(test_\w+)`", row[TEST])
        assert here, row
        assert here <= flows, row
        assert tests, row
        assert set(tests) <= known, row
        named |= here
    assert named == flows
