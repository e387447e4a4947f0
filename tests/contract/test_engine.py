"""The container engine of CI provides what the Dockerfiles and the tests need."""

import re
import subprocess

from support.compose_lab import BASES
from support.launcher import REPOSITORY

ENGINE = REPOSITORY / "tests" / "compose" / "engine"


def test_every_base_image_has_a_stand_in_and_a_line_in_the_readme() -> None:
    """`up` builds exactly the images in BASES, and README.md says what each holds."""
    script = (ENGINE / "up").read_text(encoding="utf-8")
    built = set(re.findall(r"^stand_in (\S+)", script, re.MULTILINE))
    imported = set(re.findall(r"- (debian:\S+)$", script, re.MULTILINE))
    assert built | imported == set(BASES)
    readme = (ENGINE / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z]+:[^`]+)`", readme, re.MULTILINE)) == set(BASES)


def test_the_scripts_are_valid_bash() -> None:
    """`bash -n` parses them without running them."""
    for name in ("up", "postgres-entrypoint"):
        subprocess.run(["bash", "-n", ENGINE / name], check=True)
        assert (ENGINE / name).stat().st_mode & 0o111, f"{name} is not executable"
