"""What an operator can see of the SCP while it is attacked: processes, memory, log lines, files."""

import inspect
import re
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from support.edge_setup import EdgeSetup
from support.wire_edge import receivers

from gateway import log
from gateway.log import Stage
from proof.fuzz.hostile import ESCAPE, SECRET

MEMORY_BOUND_MB = 300
"""The most memory in RAM for one process of the SCP during the campaign (its VmHWM)."""
POLL_SECONDS = 0.5

_FIELDS = frozenset(inspect.signature(log.write).parameters) | {"time", "process", "pid"}
_STAGES = frozenset(stage.value for stage in Stage)
_KEPT = re.compile(r"[0-9][0-9.]{0,63}(?:\.[0-9a-f]{12})?\.dcm")
_UID_FOLDER = re.compile(r"[0-9][0-9.]{0,127}")  # the pattern of gateway/domain/identifiers.py
_MAX_SHOWN = 20


class Watch(threading.Thread):
    """Checks twice a second until `stop`; everything wrong is in `violations`."""

    def __init__(self, edge: EdgeSetup) -> None:
        super().__init__(name="watch")
        self._edge = edge
        self._ending = threading.Event()
        self._processes = receivers(edge)
        self._log = edge.configuration.edge.log_path.open("rb")
        self._rest = b""
        self._names: set[str] = set()
        self._outside = _outside(edge)
        self.violations: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.lines = 0
        self.begun_with_mb = max(_memory_mb(pid, "VmRSS") for pid in self._processes)
        self.peak_mb = 0.0
        self.peak_threads = 0

    def run(self) -> None:
        """Check until `stop`."""
        while not self._ending.wait(POLL_SECONDS):
            self._look()

    def stop(self) -> None:
        """Check a last time, files included."""
        self._ending.set()
        self.join()
        self._look()
        self._log.close()
        self._look_at_files()

    def _tell(self, what: str) -> None:
        if len(self.violations) < _MAX_SHOWN:
            self.violations.append(what)

    def _look(self) -> None:
        now = receivers(self._edge)
        if now != self._processes or self._edge.scp.popen.poll() is not None:
            self._tell(f"the processes of the SCP were {self._processes} and are {now}")
            self._processes = now
        for pid in now:
            self.peak_mb = max(self.peak_mb, peak_mb(pid))
            self.peak_threads = max(self.peak_threads, int(_status(pid, "Threads")))
        if self.peak_mb > MEMORY_BOUND_MB:
            self._tell(f"{self.peak_mb:.0f} MB in RAM, {MEMORY_BOUND_MB} are allowed")
        *lines, self._rest = (self._rest + self._log.read()).split(b"\n")
        for line in lines:
            self._judge(line)

    def _judge(self, line: bytes) -> None:
        """Check that a line is one JSON object of a known process and stage, and quotes no attacker."""
        self.lines += 1
        try:
            parsed: Any = orjson.loads(line)
        except orjson.JSONDecodeError:
            self._tell(f"a log line is no JSON: {line[:200]!r}")
            return
        if not isinstance(parsed, dict) or not set(parsed) <= _FIELDS:
            self._tell(f"a log line has other fields: {line[:200]!r}")
            return
        if parsed.get("stage") not in _STAGES or parsed.get("pid") not in self._processes:
            self._tell(f"a log line of nobody: {line[:200]!r}")
        if SECRET in line or any(not (" " <= c <= "~" or c == "…") for c in line.decode()):
            self._tell(f"a log line quotes a stranger: {line[:200]!r}")
        if parsed.get("outcome") == "association_failed" or parsed.get("status") == "0x0110":
            self._tell(f"unforeseen: {line[:400]!r}")
        self.outcomes[str(parsed.get("status") or parsed.get("outcome"))] += 1

    def _look_at_files(self) -> None:
        root = self._edge.configuration.edge.data_root
        for path in sorted(_outside(self._edge) - self._outside):
            self._tell(f"a file outside of the spool: {path}")
        for place in ("incoming", "queued", "sent", "failed", "orphaned", "damaged"):
            for path in (root / place).rglob("*"):
                good = _UID_FOLDER if path.is_dir() else _KEPT
                if not good.fullmatch(path.name):
                    self._tell(f"a name of a stranger in the spool: {path}")


def _outside(edge: EdgeSetup) -> set[Path]:
    """Return every file near the spool but outside it, and files that escaped further."""
    section = edge.configuration.edge
    near = {
        path
        for path in section.data_root.parent.rglob("*")
        if section.data_root not in path.parents and section.log_path.parent not in path.parents
    }
    for folder in (Path("/"), Path("/tmp"), Path.cwd(), section.data_root, *section.data_root.parents):  # noqa: S108
        near |= {path for path in folder.iterdir() if ESCAPE in path.name}
    near |= {path for path in Path.cwd().iterdir() if not path.name.startswith(".")}
    return near | set(section.log_path.parent.iterdir())


def _status(pid: int, name: str) -> str:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return "0"
    return next((line.split()[1] for line in text.splitlines() if line.startswith(f"{name}:")), "0")


def _memory_mb(pid: int, name: str) -> float:
    return int(_status(pid, name)) * 1024 / 1e6


def peak_mb(pid: int) -> float:
    """Return the most memory that the process ever had in RAM."""
    return _memory_mb(pid, "VmHWM")
