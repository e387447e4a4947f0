"""Every guarantee of gateway/__init__.py has a fault or acceptance test."""

import re
import tomllib
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


def test_readme_and_the_docstring_give_the_guarantees_the_same_titles() -> None:
    """README.md has them in bold, in the same order."""
    stated = re.findall(r"^    (G\d)  ([^.:;,]+)", str(gateway.__doc__), re.MULTILINE)
    readme = (TESTS.parent / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (G\d) \| \*\*([^*]+)\*\*", readme, re.MULTILINE) == stated


def test_the_layers_of_the_docstring_are_those_that_import_linter_verifies() -> None:
    """One line a layer, in the order of pyproject.toml."""
    contracts = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    [layers] = [one["layers"] for one in contracts["tool"]["importlinter"]["contracts"] if "layers" in one]
    text = str(gateway.__doc__).partition("\nLayers.")[2]
    stated = re.findall(r"^    (\w+(?: \| \w+)*)  ", text, re.MULTILINE)
    assert stated == [layer.replace("gateway.", "") for layer in layers]
