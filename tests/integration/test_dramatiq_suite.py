"""Dramatiq's own tests, of the locked version, run against the gateway's broker.

`make test` fetches the sdist by its hash. The sdist has the tests without their fixtures. Those are in
tests/dramatiq_suite, where RedisBroker and RabbitmqBroker are the gateway's broker.
"""

import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from support.dramatiq_deselected import NOT_RUN
from support.launcher import REPOSITORY

FETCHED = REPOSITORY / "build/dramatiq-suite"
OURS = Path(__file__).resolve().parents[1] / "dramatiq_suite"
LOCKED = (REPOSITORY / "requirements-dramatiq-suite.txt").read_text(encoding="utf-8")
[VERSION] = re.findall(r"^dramatiq==([\d.]+)", LOCKED, re.MULTILINE)
DOCUMENT = (REPOSITORY / "docs/queue.md").read_text(encoding="utf-8")


def test_the_sdist_is_the_locked_dramatiq() -> None:
    """Its version and hash are those of the lock."""
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    part = lock.partition(f"\ndramatiq=={VERSION} ")[2].partition("\n    #")[0]
    [digest] = re.findall(r"sha256:[0-9a-f]{64}", LOCKED)
    assert digest in part


def test_the_document_lists_the_tests_that_are_not_run() -> None:
    """The document has a row for each reason, with the number of tests."""
    section = DOCUMENT.partition("## Dramatiq's own tests")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (.+?) \| (\d+) \|$", section, re.MULTILINE))
    assert {reason: int(count) for reason, count in rows.items()} == dict(Counter(NOT_RUN.values()))


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("database_url")
def test_dramatiqs_suite_passes_on_this_broker(tmp_path: Path) -> None:
    """All tests but NOT_RUN pass.

    A failed test is run once more alone, since many of them depend on the clock.
    """
    unpack(tmp_path)
    outcomes = run(tmp_path, ["tests"])
    found = {re.sub(r"\[.*", "", name) for name in outcomes}
    failed = sorted(name for name, outcome in outcomes.items() if outcome == "failed")
    if 0 < len(failed) <= 5:
        outcomes |= run(tmp_path, [f"tests/{name}" for name in failed])
    assert {name: outcome for name, outcome in outcomes.items() if outcome != "passed"} == {}
    assert len(found) >= 120, "part of the suite was not collected"
    assert not found & NOT_RUN.keys()


def unpack(folder: Path) -> None:
    """Unpack the suite into folder/tests, with our fixtures; its files in /tmp go to the folder."""
    archive = FETCHED / f"dramatiq-{VERSION}.tar.gz"
    if not archive.exists():
        assert "CI" not in os.environ, f"{archive} is missing: `make test` fetches it"
        pytest.skip(f"{archive} is missing: `make test` fetches it where the package index can be reached")
    with tarfile.open(archive) as content:
        for member in content.getmembers():
            if match := re.fullmatch(rf"dramatiq-{VERSION}/tests/(test_\w+\.py)", member.name):
                source = content.extractfile(member)
                assert source is not None
                text = source.read().decode().replace('"/tmp/', f'"{folder}/')
                (folder / "tests").mkdir(exist_ok=True)
                (folder / "tests" / match[1]).write_text(text, encoding="utf-8")
    for path in OURS.glob("*.py"):
        name = "conftest.py" if path.name == "suite_conftest.py" else path.name
        (folder / "tests" / name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\ntimeout = 60\n", encoding="utf-8")


def run(folder: Path, chosen: list[str]) -> dict[str, str]:
    """Run these tests; return the outcome of each by its name."""
    report = folder / "report.xml"
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    deselected = [word for name in NOT_RUN for word in ("--deselect", f"tests/{name}")]
    with (folder / "output").open("ab") as output:
        subprocess.run(
            [*words, "--tb=short", f"--junit-xml={report}", *deselected, *chosen],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTEST_ADDOPTS": ""},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert report.exists(), (folder / "output").read_text(encoding="utf-8")[-5000:]
    outcomes = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314
        kinds = {child.tag for child in case}
        name = f"{str(case.get('classname')).removeprefix('tests.')}.py::{case.get('name')}"
        outcomes[name] = "failed" if kinds & {"failure", "error"} else "skipped" if kinds else "passed"
    report.unlink()
    if "failed" in outcomes.values():
        sys.stderr.write((folder / "output").read_text(encoding="utf-8", errors="replace")[-20_000:])
    return outcomes
