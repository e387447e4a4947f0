"""The code of a release in a folder of its own, and its commands as processes of a test."""

import subprocess
import sys
from pathlib import Path

from support.edge_setup import EdgeSetup
from support.launcher import REPOSITORY, Process


class NotInThisCloneError(Exception):
    """Git does not have that commit, as in a shallow clone."""


def extract(commit: str, folder: Path) -> Path:
    """Write the code of `commit` into `folder`, a new one; return it.

    Raises:
        NotInThisCloneError: Git does not have the commit.
    """
    folder.mkdir()
    archive = subprocess.run(
        ["git", "-C", REPOSITORY, "archive", commit], capture_output=True, check=False, timeout=60
    )
    if archive.returncode != 0:
        raise NotInThisCloneError(archive.stderr.decode(errors="replace").strip())
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True, timeout=60)
    return folder


def words(tree: Path, *words: str | Path) -> list[str | Path]:
    """Return the command line of `python WORDS` with the code of `tree`."""
    # `-m` imports from the folder in which it runs, a script from PYTHONPATH: not the code of this clone.
    return ["env", "-C", tree, f"PYTHONPATH={tree}", sys.executable, *words]


def start(edge: EdgeSetup, tree: Path, *module: str) -> Process:
    """Start `python -m MODULE …` with the code of `tree`."""
    return edge.start(*words(tree, "-m", *module))
