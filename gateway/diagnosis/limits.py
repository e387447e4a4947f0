"""Processes of the edge on this host that reach a limit of the system: threads of their user, memory."""

import os
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.database.tables.processes import ProcessRow
from gateway.diagnosis.finding import Finding, Holds, problem

_PROC = Path("/proc")
_THREADS, _ADDRESSES = "Max processes", "Max address space"
MEMORY_FULL = 0.97
"""A thread needs 8 MiB of address space: with less than this share free, none may start."""


def limits(rows: Sequence[ProcessRow]) -> Iterator[Finding]:
    """Yield each process that may start no further thread, or get no further memory."""
    host = socket.gethostname()
    here = [row for row in rows if row.host == host]
    threads = _threads_by_user() if here else Counter[int]()
    for row in here:
        with suppress(OSError, ValueError):  # it has ended
            yield from _threads(row, threads)
            yield from _memory(row)


def _threads(row: ProcessRow, threads: Counter[int]) -> Iterator[Finding]:
    user = (_PROC / str(row.pid)).stat().st_uid
    limit = limit_of(row.pid, _THREADS)
    if user == 0 or limit is None or threads[user] < limit:  # root has no limit
        return
    yield problem(
        f"process.threads:{row.host}:{row.pid}",
        f"{row.name} may start no further thread: the user {row.os_user} has {threads[user]:,} threads, and "
        f"the limit of its processes is {limit:,}",
        "each association needs a thread: it takes and opens no further one",
        "raise the limit (LimitNPROC= of systemd, `ulimit -u`, `ulimits:` of Compose), then restart it; it "
        "must exceed edge.max_associations",
        holds=Holds.ALL,
    )


def _memory(row: ProcessRow) -> Iterator[Finding]:
    limit = limit_of(row.pid, _ADDRESSES)
    if limit is None:
        return
    pages = int((_PROC / str(row.pid) / "statm").read_text().split()[0])
    used = pages * os.sysconf("SC_PAGE_SIZE")
    if used < MEMORY_FULL * limit:
        return
    yield problem(
        f"process.memory:{row.host}:{row.pid}",
        f"{row.name} gets no further memory: it has {used >> 20:,} MiB of address space, and its limit is "
        f"{limit >> 20:,} MiB",
        "it starts no thread for a further association",
        "raise the limit (LimitAS= of systemd, `ulimit -v`), then restart it",
        holds=Holds.ALL,
    )


def limit_of(pid: int, name: str) -> int | None:
    """Return a soft limit of a process by its name in /proc/PID/limits; None if it has none.

    Raises:
        OSError: the process has ended.
    """
    for line in (_PROC / str(pid) / "limits").read_text().splitlines():
        if line.startswith(name):
            value = line.removeprefix(name).split()[0]
            return None if value == "unlimited" else int(value)
    return None


def _threads_by_user() -> Counter[int]:
    """Count the threads of each user: the limit of processes counts these."""
    found: Counter[int] = Counter()
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                found[entry.stat().st_uid] += sum(1 for _ in os.scandir(entry / "task"))
    return found
