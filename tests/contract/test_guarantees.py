"""Every guarantee of gateway/__init__.py has a fault or acceptance test."""

import re
from pathlib import Path

import gateway

TESTS = Path(__file__).resolve().parents[1]


def test_every_guarantee_has_a_test() -> None:
    """Each of G1 to G8 is named by a marker of a fault or acceptance test; no other number is."""
    stated = set(re.findall(r"^    (G\d+)  ", str(gateway.__doc__), re.MULTILINE))
    assert stated == {f"G{number}" for number in range(1, 9)}
    claimed = {
        number
        for folder in ("faults", "acceptance")
        for path in (TESTS / folder).glob("test_*.py")
        for number in re.findall(r'pytest\.mark\.guarantee\("(\w+)"\)', path.read_text(encoding="utf-8"))
    }
    assert claimed == stated
