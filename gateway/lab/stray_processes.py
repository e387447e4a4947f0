"""Finding and ending every process that belongs to one lab, grandchildren included.

Every process of a lab inherits the variable `MINI_PACS_LAB` with the identity of that lab. What a
dying supervisor leaves behind is therefore found in /proc by that mark alone: no process id is ever
recorded, so none can be stale and mean a stranger.

If the process dies inside `end`, the rest is found again by the next start.
"""

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

MARK = "MINI_PACS_LAB"

TERM_SECONDS = 3.0
"""From SIGTERM to SIGQUIT; an actor process that drains its messages must fit in."""
QUIT_SECONDS = 1.0
"""From SIGQUIT, which is an immediate shutdown to PostgreSQL, to SIGKILL."""

_POLL_SECONDS = 0.02


def marked(identity: str, mark: str = MARK) -> list[int]:
    """Every living process whose identity begins like that, this process excluded."""
    wanted = f"{mark}={identity}".encode()
    found = []
    for pid in _pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # ended while we looked, or another user's: neither is ours to end
        if (
            any(variable.startswith(wanted) for variable in environment.split(b"\0"))
            and is_alive(pid)
            and pid != os.getpid()
        ):
            found.append(pid)
    return found


def descendants(pid: int) -> list[int]:
    """The children of `pid`, their children and so on, parents first."""
    children: dict[int, list[int]] = {}
    for candidate in _pids():
        fields = _stat(candidate)
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(candidate)
    found: list[int] = []
    ahead = [pid]
    while ahead:
        below = children.get(ahead.pop(0), [])
        found.extend(below)
        ahead.extend(below)
    return found


def is_alive(pid: int) -> bool:
    """Tell whether that process runs; one that waits only to be reaped does not."""
    fields = _stat(pid)
    return fields is not None and fields[0] not in {"Z", "X"}


def send(pids: Iterable[int], number: int) -> None:
    """Signal each of them that still lives."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue  # gone meanwhile, or its id is already somebody else's


def end(identity: str, mark: str = MARK) -> int:
    """No process of that lab lives afterwards; returns how many there were.

    Gentle first, so that PostgreSQL removes its shared memory; a stopped process is woken to hear it.
    """
    first = marked(identity, mark)
    for number, patience in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGQUIT, QUIT_SECONDS)):
        pids = marked(identity, mark)
        if not pids:
            return len(first)
        send(pids, number)
        send(pids, signal.SIGCONT)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and any(is_alive(pid) for pid in pids):
            time.sleep(_POLL_SECONDS)
    while pids := marked(identity, mark):
        send(pids, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    return len(first)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # the name may hold spaces and parentheses; what follows its last one is state, parent, …
    return text.rpartition(")")[2].split()
