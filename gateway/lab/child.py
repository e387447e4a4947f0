"""Start one process of the lab in a session of its own, with its output appended to a file.

The process has its own session for two reasons. Ctrl-C in a terminal must reach the supervisor only. A signal
to the group of the process must reach the children that it forks. If the supervisor dies, `watchdog` and
`stray_processes` end the process.
"""

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def spawn(
    command: Sequence[str | Path],
    output: Path,
    *,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    cwd: Path = Path("/"),
) -> subprocess.Popen[bytes]:
    """Start and return the process; add `environment` to ours; run as `user`, which only root can."""
    as_user = None if user is None else pwd.getpwnam(user)
    with output.open("ab") as sink:
        return subprocess.Popen(  # noqa: S603  commands of the lab, none from outside
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            start_new_session=True,
            user=None if as_user is None else as_user.pw_uid,
            group=None if as_user is None else as_user.pw_gid,
            extra_groups=None if as_user is None else [],
        )
