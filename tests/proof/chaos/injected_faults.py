"""A spool disk that is really full, and the faults that the product's own commands inject."""

import os
import subprocess
import sys
from collections.abc import Callable

from proof.chaos.faults import Pick
from proof.chaos.setup import Setup

End = Callable[[], None]

CLI_SECONDS = 30.0
"""Must exceed the start of a command on a busy machine, with its waits for PostgreSQL."""


def fill(setup: Setup, _pick: Pick) -> End | None:
    """Fill every free block of the spool's file system until the end."""
    if not setup.disk.is_real:
        return None
    setup.disk.fill()
    return setup.disk.relieve


def inject(setup: Setup, pick: Pick) -> End | None:
    """Run `mini-pacs inject-fault`; the fault ends by its `--for`, or by `clear-faults` at the latest."""
    words = [pick.kind.target, *([f"{pick.kind.value:g}"] if pick.kind.value else [])]
    if mini_pacs(setup, "inject-fault", *words, "--for", f"{pick.seconds:.1f}s"):
        return None
    return _nothing


def mini_pacs(setup: Setup, *words: str) -> int:
    """Run that command; return its exit code."""
    with (setup.folder / "cli.out").open("ab") as output:
        return subprocess.run(
            [sys.executable, "-m", "cli", *words],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **setup.lab.environment},
            timeout=CLI_SECONDS,
        ).returncode


def _nothing() -> None:
    """Do nothing: the fault ends by itself."""
