"""Measure what an instance costs, in figures that do not depend on the load of the machine.

CPU and switches come from /proc, statements from PostgreSQL's log, system calls from strace, write-ahead log
from PostgreSQL's counters. Statements and system calls are counted in a run of their own, because counting
them costs time.
"""

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.database.connection import connect
from gateway.lab import stray_processes
from gateway.lab.postgres import EmbeddedPostgres
from support.edge_setup import EdgeSetup
from support.waiting import wait_until

TICK = os.sysconf("SC_CLK_TCK")
FLUSHES = ("fsync", "fdatasync", "sync_file_range", "syncfs")
_STATEMENT = re.compile(rb" LOG:  (?:statement|execute [^:]*): (.*)")
_LITERAL = re.compile(r"'(?:[^']|'')*'(?:::\w+(?:\[\])?)?|\bARRAY\[[^\]]*\]|\b\d+(?:\.\d+)?\b")


@dataclass
class Cost:
    """What one group of processes used."""

    user: float = 0.0
    system: float = 0.0
    switches: int = 0
    copied: int = 0

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(
            self.user - other.user,
            self.system - other.system,
            self.switches - other.switches,
            self.copied - other.copied,
        )


@dataclass
class Counts:
    """What was counted in a part of a run: system calls by group, statements by their text."""

    calls: dict[str, Counter[str]] = field(default_factory=dict)
    statements: Counter[str] = field(default_factory=Counter)


def groups(edge: EdgeSetup, actors: Sequence[int], postgres: EmbeddedPostgres) -> dict[str, list[int]]:
    """Return the process ids of each group."""
    assert postgres.process is not None
    roots = {"receivers": [edge.scp.pid], "actors": list(actors), "PostgreSQL": [postgres.process.pid]}
    return {
        name: [pid for root in of for pid in (root, *stray_processes.descendants(root))]
        for name, of in roots.items()
    }


def cost(pids: Sequence[int]) -> Cost:
    """Return what these processes, and the children that they have waited for, used since they began."""
    total = Cost()
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            user, system, users, systems = map(int, fields[11:15])
            total.user += (user + users) / TICK
            total.system += (system + systems) / TICK
            total.switches += _switches(pid)
            total.copied += _copied(pid)
        except OSError:
            continue  # it has ended; its parent counts its time
    return total


def _switches(pid: int) -> int:
    """Return how often its threads have waited."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text("ascii"), re.MULTILINE)
        total += int(found[1]) if found else 0
    return total


def _copied(pid: int) -> int:
    """Return the bytes that passed read(2), write(2) and their like; recv(2) and send(2) are not counted."""
    text = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
    return sum(int(count) for count in re.findall(r"^[rw]char: (\d+)", text, re.MULTILINE))


def log_bytes(edge: EdgeSetup) -> tuple[int, int]:
    """Return the bytes of write-ahead log that PostgreSQL has written, and how often it flushed it."""
    size = edge.one("SELECT wal_bytes FROM pg_stat_wal")
    flushes = edge.one("SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal'")
    return int(size), int(flushes)


@contextmanager
def counted(
    groups: Mapping[str, Sequence[int]], postgres: EmbeddedPostgres, folder: Path
) -> Iterator[Counts]:
    """Count statements and system calls while the `with` runs."""
    counts = Counts()
    began = postgres.output.stat().st_size
    with ExitStack() as stack:
        for name, pids in groups.items():
            stack.enter_context(_traced(counts, name, pids, folder / f"strace-{name}.txt"))
        yield counts
    with postgres.output.open("rb") as output:
        output.seek(began)
        for line in output:
            if found := _STATEMENT.search(line):
                counts.statements[_shape(found[1].decode(errors="replace"))] += 1


@contextmanager
def _traced(counts: Counts, name: str, pids: Sequence[int], path: Path) -> Iterator[None]:
    """Count the system calls of these processes; nothing if strace is missing or may not trace."""
    program = shutil.which("strace")
    if program is None:
        yield
        return
    words = [word for pid in pids for word in ("-p", str(pid))]
    said = path.with_suffix(".said")
    with said.open("wb") as output:
        tracer = subprocess.Popen([program, "-f", "-c", "-o", path, *words], stderr=output)

    def attached() -> bool:
        return tracer.poll() is not None or said.read_bytes().count(b"attached") >= len(pids)

    wait_until(attached, 20, "strace to attach")
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
    if path.exists():
        counts.calls[name] = _calls(path.read_text(encoding="utf-8"))


def _calls(summary: str) -> Counter[str]:
    calls: Counter[str] = Counter()
    for line in summary.splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
            calls[fields[-1]] += int(fields[3])
    return calls


def _shape(statement: str) -> str:
    """Return the beginning of a statement without its values."""
    return " ".join(_LITERAL.sub("?", statement).split())[:70]


@contextmanager
def statements_logged(edge_dsn: str) -> Iterator[None]:
    """Let PostgreSQL log each statement of the connections that begin while the `with` runs."""

    def alter(words: str) -> None:
        connection = connect(edge_dsn, application_name="bench", deadline_seconds=30)
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER ROLE CURRENT_USER {words}")
        connection.close()

    alter("SET log_statement TO 'all'")
    alter("SET log_min_messages TO 'log'")
    try:
        yield
    finally:
        alter("RESET log_statement")
        alter("RESET log_min_messages")
