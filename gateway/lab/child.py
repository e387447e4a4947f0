"""Starting one process of the lab: a session of its own, its output appended to a file.

A session of its own, because Ctrl-C in a terminal is for whoever supervises, and because signals to the
group then reach the children that a process forks. The starter's death is not noticed here: see
`warden` and `leftovers`.
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
    """The running process; `environment` is added to ours, `user` taken on (only root can)."""
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
