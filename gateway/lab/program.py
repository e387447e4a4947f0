"""One supervised command: its process, which can be started, signalled and ended, and its state.

supervisor.py decides when; it holds all programs of a lab.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import LabError
from gateway.lab import stray_processes
from gateway.lab.child import spawn
from gateway.lab.listening import listens

SETTLE_SECONDS = 0.2
"""A program that cannot start has usually ended after this time."""


@dataclass(frozen=True, slots=True)
class Program:
    """A command that runs as long as the lab.

    It is ready when it has run for SETTLE_SECONDS, has printed `ready_line` (a regular expression), listens
    on each of `ports`, and `ready` returns true. A descendant may listen instead of the program itself.
    `afterwards` runs once, when the program is ready for the first time.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    ready_line: str | None = None
    ports: tuple[int, ...] = ()
    ready: Callable[[], bool] | None = None
    afterwards: Callable[[], None] | None = None
    stop_signal: int = signal.SIGTERM


@dataclass(slots=True)
class Running:
    """A program, its process, and whether it should run; change it only under the lock of the supervisor."""

    program: Program
    output: Path
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = False
    started: float = 0.0
    offset: int = 0
    """Length of the output file when the process was started; the rest is from this process."""
    restarts: int = 0
    was_ready: bool = False
    """It was ready once, so it may become ready again."""
    not_before: float = 0.0
    delay_seconds: float = 0.0

    def start(self, environment: Mapping[str, str], folder: Path) -> None:
        """Start the process with `environment` and its own, in `folder`, or in / as another user.

        Raises:
            LabError: the command cannot be run.
        """
        program = self.program
        self.output.touch()
        self.offset = self.output.stat().st_size
        self.started = time.monotonic()
        try:
            self.process = spawn(
                program.command,
                self.output,
                environment={**environment, **program.environment},
                user=program.user,
                cwd=folder if program.user is None else Path("/"),
            )
        except OSError as error:
            raise LabError(f"cannot start {program.name}: {error.strerror}: {program.command[0]}") from error

    def send(self, number: int) -> None:
        """Send a signal to the leader, if it runs."""
        if self.process is not None and self.is_alive():
            self.process.send_signal(number)

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def is_ready(self) -> bool:
        """Tell whether the program is ready."""
        program = self.program
        if not self.is_alive() or time.monotonic() - self.started < SETTLE_SECONDS:
            return False
        if program.ready_line is not None and re.search(program.ready_line, self.words()) is None:
            return False
        if program.ports and not self._listens():
            return False
        return program.ready is None or program.ready()

    def _listens(self) -> bool:
        """Tell whether this program, and not another one, listens on its ports."""
        assert self.process is not None
        leader = self.process.pid
        family = [leader, *stray_processes.descendants(leader)]
        return all(listens(family, port) for port in self.program.ports)

    def words(self) -> str:
        """Return what this process has printed so far."""
        try:
            with self.output.open("rb") as output:
                output.seek(self.offset)
                return output.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def schedule(self, first: float, longest: float, calm: float) -> None:
        """Set the time of the next start; double the delay if the process ended within `calm` seconds."""
        now = time.monotonic()
        if now - self.started > calm:
            self.delay_seconds = 0.0
        self.delay_seconds = min(longest, max(first, 2 * self.delay_seconds))
        self.not_before = now + self.delay_seconds


def end_group(leader: int) -> None:
    """Kill what is left of the process group of a leader that has ended."""
    with suppress(ProcessLookupError):  # all of it has ended
        os.killpg(leader, signal.SIGKILL)
