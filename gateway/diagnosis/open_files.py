"""Processes of the edge on this host that may open no further file: each connection and each file is one."""

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.database.tables.processes import ProcessKind, ProcessRow
from gateway.diagnosis.finding import Finding, Holds, note, problem

_PROC = Path("/proc")
_LIMIT = "Max open files"
NEARLY = 0.9


def open_files(rows: Sequence[ProcessRow]) -> Iterator[Finding]:
    """Yield each process that has as many files open as its limit allows, or nearly as many."""
    host = socket.gethostname()
    for row in rows:
        seen = _of(row.pid) if row.host == host else None
        if seen is None or seen[0] < NEARLY * seen[1]:
            continue
        used, limit = seen
        is_full = used >= limit - 1
        make = problem if is_full else note
        effect = (
            "it accepts no further connection"
            if row.kind in {ProcessKind.RECEIVER, ProcessKind.SERVE}
            else "it opens no further association and reads no further file"
        )
        yield make(
            f"process.open_files:{row.host}:{row.pid}",
            f"{row.name} has {used:,} files and connections open; its limit of open files is {limit:,}",
            effect if is_full else f"at the limit {effect}",
            "raise the limit (LimitNOFILE= of systemd, `ulimit -n`, `ulimits:` of Compose), then restart it; "
            "it must exceed edge.max_associations",
            holds=Holds.ALL if is_full else Holds.LATER,
        )


def _of(pid: int) -> tuple[int, int] | None:
    """Return how many files a process has open, and its limit; None if that cannot be read."""
    try:
        used = sum(1 for _ in os.scandir(_PROC / str(pid) / "fd"))
        lines = (_PROC / str(pid) / "limits").read_text().splitlines()
        limit = next(line for line in lines if line.startswith(_LIMIT)).removeprefix(_LIMIT).split()[0]
        return used, int(limit)
    except (OSError, StopIteration, ValueError):  # it has ended, belongs to another user, or has no limit
        return None
