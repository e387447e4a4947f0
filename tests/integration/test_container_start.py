"""The start of the edge's container: it makes a test DICOM file unless it is configured not to."""

from pathlib import Path

import pytest
from support.compose_lab import run
from support.launcher import REPOSITORY

SERVE = ("mini-pacs", "serve", "--print-log")


def says(folder: Path, *command: str, **environment: str) -> set[str]:
    """Return which programs the entry point ran; each is a script that prints its command line."""
    for name in ("python", "mini-pacs"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    # the output ends when the last program has ended, those in the background included
    done = run(
        "sh", REPOSITORY / "images" / "edge" / "entrypoint", *command,
        env={"PATH": f"{folder}:/usr/bin:/bin", **environment},
    )  # fmt: skip
    return set(done.stdout.splitlines())


@pytest.mark.parametrize("environment", [{}, {"GENERATE_TEST_DICOM": "1"}])
def test_the_container_of_the_scp_makes_the_file(tmp_path: Path, environment: dict[str, str]) -> None:
    """By default, and with GENERATE_TEST_DICOM=1."""
    assert says(tmp_path, *SERVE, **environment) == {" ".join(SERVE), "python /app/test_dicom.py"}


def test_generate_test_dicom_0_makes_no_file(tmp_path: Path) -> None:
    """GENERATE_TEST_DICOM=0 starts the SCP alone."""
    assert says(tmp_path, *SERVE, GENERATE_TEST_DICOM="0") == {" ".join(SERVE)}


def test_other_containers_make_no_file(tmp_path: Path) -> None:
    """Actors, scheduler and commands do not need it."""
    assert says(tmp_path, "mini-pacs", "db", "migrate") == {"mini-pacs db migrate"}
