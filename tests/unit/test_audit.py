"""`make audit` reports what it found, or that it could not ask."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.launcher import REPOSITORY

Package = dict[str, Any]
KNOWN: Package = {"name": "fine", "version": "1", "vulns": []}
WEAK: Package = {"name": "weak", "version": "1", "vulns": [{"id": "X-2026-1", "fix_versions": ["2"]}]}
UNKNOWN: Package = {"name": "ours", "skip_reason": "Dependency not found"}


def audit(folder: Path, packages: list[Package] | None, *, says: str = "", code: int = 0) -> tuple[int, str]:
    """Exit code and output, where pip-audit reports those packages, or says something and reports nothing."""
    (folder / "bin").mkdir()
    tool = folder / "bin" / "pip-audit"
    tool.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys\n"
        "if '--version' in sys.argv:\n"
        "    sys.exit(print('pip-audit 2.10.1'))\n"
        f"report = {None if packages is None else json.dumps({'dependencies': packages})!r}\n"
        "if report is not None:\n"
        "    pathlib.Path(sys.argv[sys.argv.index('--output') + 1]).write_text(report)\n"
        f"print({says!r}, file=sys.stderr)\n"
        f"sys.exit({code})\n",
        encoding="utf-8",
    )
    tool.chmod(0o755)
    done = subprocess.run(
        [REPOSITORY / ".ci" / "audit", sys.executable],
        env={"PATH": "/usr/bin:/bin", "AUDIT_ENVIRONMENT": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([KNOWN], 0, "1 packages asked for, 0 known"),
        ([KNOWN, WEAK], 1, "weak 1: X-2026-1, fixed in 2"),
        ([KNOWN, UNKNOWN], 0, "not audited: ours"),
        ([UNKNOWN], 0, "audit SKIPPED: the service"),
    ],
)
def test_a_report_is_printed_and_decides(
    tmp_path: Path, packages: list[Package], code: int, words: str
) -> None:
    """A vulnerability fails it; unknown packages are named, and if all are unknown it is a skip."""
    ended, said = audit(tmp_path, packages, code=code)
    assert ended == code
    assert words in said


def test_a_service_out_of_reach_is_a_skip_with_a_message(tmp_path: Path) -> None:
    """With its last output, so that a mistyped proxy is not taken for a missing network."""
    words = "ConnectionError: Max retries exceeded: Name or service not known"
    ended, said = audit(tmp_path, None, says=words, code=1)
    assert ended == 0
    assert "audit SKIPPED" in said
    assert words in said


def test_an_audit_that_breaks_fails(tmp_path: Path) -> None:
    """Only an error that is known to be a missing network is a skip."""
    ended, said = audit(tmp_path, None, says="KeyError: 'vulns'", code=1)
    assert ended == 1
    assert "audit FAILED" in said
