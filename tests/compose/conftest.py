"""The container engine and the lab that all tests of this folder share, and the output of a failed test."""

import os
import shutil
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from support.compose_lab import BASES, ComposeLab, run
from support.launcher import REPOSITORY

ENGINE = Path(__file__).parent / "engine" / "up"
ENGINE_SECONDS = 900
"""Must exceed the first run of ENGINE, which installs packages: about two minutes on an idle machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder: only `make test-compose` runs them, and a build needs a long timeout."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.compose)
            item.add_marker(pytest.mark.timeout(1200))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the containers and the end of their output beside the traceback of a failed test."""
    report = yield
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and isinstance(lab, ComposeLab):
        report.sections.append(("docker compose ps", lab.compose("ps", "--all", check=False)))
        report.sections.append(("output", lab.compose("logs", "--no-color", "--tail", "40", check=False)))
    return report


@pytest.fixture(scope="session")
def engine() -> None:
    """Start a Docker engine with Compose in CI, or skip the tests if no engine answers.

    ENGINE installs packages, so outside CI only the developer runs it.
    """
    if _answers() and _has_bases():
        return
    if "CI" in os.environ and run("bash", ENGINE, "--possible", check=False).returncode == 0:
        subprocess.run(["bash", ENGINE], check=True, timeout=ENGINE_SECONDS)
    if not _answers():
        assert "CI" not in os.environ, "no Docker engine with Compose answers"
        pytest.skip(f"no Docker engine with Compose answers; as root on Debian, {ENGINE} brings one up")


def _answers() -> bool:
    return shutil.which("docker") is not None and all(
        run("docker", *words, check=False).returncode == 0 for words in (("info",), ("compose", "version"))
    )


def _has_bases() -> bool:
    return run("docker", "image", "inspect", *BASES, check=False).returncode == 0


@pytest.fixture(scope="session")
def lab(engine: None) -> Iterator[ComposeLab]:
    """Yield the lab in containers, healthy. A test that breaks it must repair it."""
    del engine
    lab = ComposeLab()
    try:
        lab.up()
        yield lab
    finally:
        lab.remove()


@pytest.fixture(autouse=True)
def _well(lab: ComposeLab) -> None:
    """Begin each test with a healthy lab: no fault, no problem in status, all processes running."""
    lab.wait_well()


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Return the folder of files to look at after the tests."""
    folder = Path(os.environ.get("COMPOSE_ARTEFACTS") or REPOSITORY / "build" / "compose")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
