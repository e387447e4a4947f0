"""Tell which process listens on a port of this machine, from /proc.

A successful connection does not show which process accepted it. That process may belong to another lab, or be
a server of the user.
"""

import os
from collections.abc import Iterable
from pathlib import Path

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"  # TCP_LISTEN in include/net/tcp_states.h of Linux


def listens(pids: Iterable[int], port: int) -> bool:
    """Tell whether one of these processes of our user has a listening TCP socket on `port`."""
    wanted = {f"socket:[{inode}]" for inode in _listeners(port)}
    return bool(wanted) and any(_open_files(pid) & wanted for pid in pids)


def _listeners(port: int) -> set[str]:
    """Return the inodes of all listening sockets on that port."""
    found = set()
    for table in _TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without IPv6
        for line in lines:
            # sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _open_files(pid: int) -> set[str]:
    """Return what the descriptors of a process refer to; empty if it ended or belongs to another user."""
    found: set[str] = set()
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208  names, not paths
    except OSError:
        return found
    for descriptor in descriptors:
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))  # noqa: PTH115  a text, not a path
        except OSError:
            continue  # closed in between
    return found
