"""What this host shows of a PostgreSQL that does not answer: a stopped process, who has its connections.

PostgreSQL writes into the command line of each of its processes whom it serves, and any user may read that.
A PostgreSQL on another host, or in another container, shows nothing here.
"""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gateway.database import dsn as dsn_text

_PROC = Path("/proc")
_STOPPED = "T"
_LISTENS = "0A"
_SERVED = re.compile(
    r"postgres: (?:\d+/\w+: )?(?P<user>\S+) (?P<database>\S+) (?P<host>\[local\]|[\da-f.:]+)(?:\(\d+\))? "
)
"""The command line of a process of PostgreSQL that serves a client; `cluster_name: ` may stand before it."""


def of_silence(dsn: str) -> int | None:
    """Return the pid of the PostgreSQL that the DSN names, if it runs here and is stopped by a signal."""
    return stopped_listener(*dsn_text.local_ports(dsn))


def stopped_listener(ports: list[int], sockets: list[str]) -> int | None:
    """Return the pid of a process of this host that listens there, and is stopped by a signal."""
    inodes = set(_listening_inodes(ports, sockets))
    for pid in _pids() if inodes else ():
        if _state_of(pid) == _STOPPED and inodes & set(_sockets_of(pid)):
            return pid
    return None


def of_connections() -> str:
    """Return who has connections to a PostgreSQL of this host, to add to a sentence; empty if none."""
    found: Counter[str] = Counter()
    for pid in _pids():
        served = _SERVED.match(_title_of(pid))
        if served is not None:
            found[f"{served['user']} on {served['database']} from {served['host']}"] += 1
    return "".join(f"; {count} by {who}" for who, count in found.most_common(3))


def _pids() -> Iterator[int]:
    with suppress(OSError):
        yield from (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def _state_of(pid: int) -> str:
    with suppress(OSError, IndexError):
        return (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()[0]
    return ""


def _title_of(pid: int) -> str:
    with suppress(OSError):
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _sockets_of(pid: int) -> Iterator[str]:
    folder = _PROC / str(pid) / "fd"
    with suppress(OSError):
        for link in folder.iterdir():
            with suppress(OSError):
                target = str(link.readlink())
                if target.startswith("socket:["):
                    yield target[8:-1]


def _listening_inodes(ports: list[int], sockets: list[str]) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError, ValueError, IndexError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) in ports:
                    yield fields[9]
    with suppress(OSError):
        for line in (_PROC / "net" / "unix").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[-1] in sockets:
                yield fields[6]
