"""Find and end every process of one lab, grandchildren included.

Every process of a lab inherits the variable `MINI_PACS_LAB` with the identity of the lab. This module finds
the processes by that variable in /proc. Process ids are not stored, so an old id cannot mean the process of
another program.

If the process dies inside `end`, the next start finds the remaining processes again.
"""

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

MARK = "MINI_PACS_LAB"

TERM_SECONDS = 3.0
"""From SIGTERM to SIGQUIT; must exceed the time in which an actor process finishes its messages."""
QUIT_SECONDS = 1.0
"""From SIGQUIT, which is an immediate shutdown for PostgreSQL, to SIGKILL."""

_POLL_SECONDS = 0.02


def marked(identity: str, mark: str = MARK) -> list[int]:
    """Return every running process whose identity begins with `identity`, except this process."""
    wanted = f"{mark}={identity}".encode()
    found = []
    for pid in _pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # It has ended, or belongs to another user, and so not to this lab.
        if (
            any(variable.startswith(wanted) for variable in environment.split(b"\0"))
            and is_alive(pid)
            and pid != os.getpid()
        ):
            found.append(pid)
    return found


def descendants(pid: int) -> list[int]:
    """Return the children of `pid`, their children and so on, parents first."""
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
    """Tell whether that process runs; a zombie does not."""
    fields = _stat(pid)
    return fields is not None and fields[0] not in {"Z", "X"}


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to each process that still runs."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue  # It has ended, or its id belongs to another user's process by now.


def end(identity: str, mark: str = MARK) -> int:
    """End every process of that lab; return how many there were.

    Send SIGTERM first, so that PostgreSQL removes its shared memory, and SIGCONT, so that a stopped process
    handles it.
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
    # The name may hold spaces and parentheses; the fields after the last parenthesis are state, parent, …
    return text.rpartition(")")[2].split()
