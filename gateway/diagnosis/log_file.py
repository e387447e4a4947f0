"""Whether the processes of the edge on this host may write the log; else its lines are lost."""

import os
import pwd
import socket
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.config import Configuration
from gateway.database.tables.processes import ProcessRow
from gateway.diagnosis.finding import Finding, Holds, problem

_ACL = "system.posix_acl_access"


def log_file(rows: Sequence[ProcessRow], configuration: Configuration) -> Iterator[Finding]:
    """Yield a finding for each user whose processes run on this host and may not write the log."""
    path = configuration.edge.log_path
    host = socket.gethostname()
    users = {row.os_user: row for row in rows if row.beats and row.host == host and row.os_user}
    for user, row in users.items():
        try:
            if may_write(path, user):
                continue
            owner = path.owner()
        except (OSError, KeyError):
            continue  # it does not exist, or this host does not know the user: a container of its own
        yield problem(
            f"configuration.log_file:{user}",
            f"{row.name} cannot write the log as user {user}: {path} belongs to {owner}",
            "the edge goes on, and the log lines of these processes are lost",
            f"`chown {user} {path}`, or remove the file; run commands of the edge as its user, not as root",
            holds=Holds.NOTHING,
        )


def may_write(path: Path, user: str) -> bool:
    """Tell whether a user may write a file, by its owner, group and mode.

    Raises:
        KeyError: this host does not know the user.
        OSError: the file cannot be examined.
    """
    account = pwd.getpwnam(user)
    status = path.stat()
    if account.pw_uid == 0 or _ACL in os.listxattr(path):  # an access control list is not examined
        return True
    if status.st_uid == account.pw_uid:
        return bool(status.st_mode & stat.S_IWUSR)
    if status.st_gid in os.getgrouplist(user, account.pw_gid):
        return bool(status.st_mode & stat.S_IWGRP)
    return bool(status.st_mode & stat.S_IWOTH)
