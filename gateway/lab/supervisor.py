"""Start the processes of a lab, restart those that end unexpectedly, and stop them in order.

Any process may die at any instruction (G6): the supervisor starts it again within a second. If the supervisor
itself dies, the watchdog ends the other processes within a few seconds; the next start ends any that remain.

Programs are in layers. A layer is started when the one before is ready, and stopped when the one after has
ended: the SCP stops first, PostgreSQL last.
"""

import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO

from gateway.errors import LabError
from gateway.lab import stray_processes
from gateway.lab.folder_lock import family, is_there, seize_folder
from gateway.lab.program import Program, Running, end_group

WATCH_SECONDS = 0.05
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 2.0
CALM_SECONDS = 5.0
"""A process that ran longer than this did not fail at its start."""
HOPELESS_RESTARTS = 6
"""If a program ends this many times before it is ready once, it will not become ready."""
READY_SECONDS = 60.0
"""Must exceed 13 starts of Python on two cores, where no module is compiled yet."""
STOP_SECONDS = 35.0
"""Must exceed edge.stop_grace_seconds (30): the SCP finishes the instances in flight."""
_POLL_SECONDS = 0.02


class Supervisor:
    """The processes of the lab in `folder`; their output goes to `folder`/logs/NAME.out."""

    def __init__(
        self,
        folder: Path,
        layers: Sequence[Sequence[Program]],
        *,
        environment: Mapping[str, str] = MappingProxyType({}),
        lock: IO[bytes] | None = None,
    ) -> None:
        """Supervise `layers`; `lock` is the result of `seize_folder`. If it is None, `start` takes it."""
        self._folder = folder.resolve()
        self._logs = self._folder / "logs"
        self._identity = f"{family(self._folder)}{secrets.token_hex(8)}"
        self._environment = {**environment, stray_processes.MARK: self._identity}
        self._layers = [[self._running(program) for program in layer] for layer in layers]
        self._table = {running.program.name: running for layer in self._layers for running in layer}
        self._changes = threading.RLock()
        self._ending = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        # A daemon thread, so that this process can end without `stop`; the watchdog then ends the others.
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._lock = lock

    def _running(self, program: Program) -> Running:
        return Running(program, self._logs / f"{program.name}.out")

    def words(self, name: str) -> str:
        """Return what a program has printed since its last start."""
        return self._table[name].words()

    # ---- all programs --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every program and wait until all are ready.

        Raises:
            LabError: another lab runs in this folder, or a program does not become ready; nothing runs then.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = seize_folder(self._folder)
        self._start_watchdog()
        self._watcher.start()
        try:
            for layer in self._layers:
                for running in layer:
                    self.bring_up(running.program.name)
                self._wait_ready(layer, READY_SECONDS)
                for running in layer:
                    if running.program.afterwards is not None:
                        running.program.afterwards()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop every process of this lab; do nothing where none runs."""
        for layer in reversed(self._layers):
            with self._changes:
                for running in layer:
                    running.wanted = False
                    running.send(signal.SIGCONT)
                    running.send(running.program.stop_signal)
            for running in layer:
                self._wait_ended(running, STOP_SECONDS)
        self._ending.set()
        if self._watcher.is_alive():
            self._watcher.join()
        stray_processes.end(self._identity)
        if self._watchdog is not None:
            assert self._watchdog.stdin is not None
            self._watchdog.stdin.close()
            self._watchdog.wait()
            self._watchdog = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def wait_ready(self, timeout: float = READY_SECONDS, names: Iterable[str] | None = None) -> None:
        """Wait until the named programs are ready; without `names`, all that should run.

        Raises:
            LabError: they were not ready within `timeout` seconds, or one ended HOPELESS_RESTARTS times.
        """
        chosen = self._table.values() if names is None else [self._table[name] for name in names]
        self._wait_ready([running for running in chosen if running.wanted], timeout)

    def has_folder(self) -> bool:
        """Tell whether the folder is still there. If not, call `stop`: another lab may start in its place."""
        return self._lock is not None and is_there(self._lock, self._folder)

    # ---- one program ---------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the programs, in the order of their start."""
        return tuple(self._table)

    def pid(self, name: str) -> int | None:
        """Return the process id of the leader of a program; None while it has none."""
        with self._changes:
            running = self._table[name]
            return running.process.pid if running.process is not None and running.is_alive() else None

    def pids(self, name: str) -> list[int]:
        """Return the process ids of the leader and of its descendants."""
        leader = self.pid(name)
        return [] if leader is None else [leader, *stray_processes.descendants(leader)]

    def is_ready(self, name: str) -> bool:
        """Tell whether that program is ready now."""
        with self._changes:
            return self._table[name].is_ready()

    def restarts(self, name: str) -> int:
        """Return how often that program ended unexpectedly and was started again."""
        return self._table[name].restarts

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to the leader only; the leader is restarted if the signal ends it."""
        with self._changes:
            self._table[name].send(number)

    def pause(self, name: str) -> None:
        """Stop the leader and its descendants by SIGSTOP: they exist, but do not answer."""
        stray_processes.send(self.pids(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Continue the leader and its descendants by SIGCONT."""
        stray_processes.send(self.pids(name), signal.SIGCONT)

    def take_down(self, name: str, number: int | None = None) -> None:
        """End a program; do not restart it until `bring_up`."""
        running = self._table[name]
        with self._changes:
            running.wanted = False
            running.send(signal.SIGCONT)
            running.send(running.program.stop_signal if number is None else number)
        self._wait_ended(running, STOP_SECONDS)

    def bring_up(self, name: str) -> None:
        """Start a program, and restart it from now on; do not wait until it is ready."""
        with self._changes:
            running = self._table[name]
            running.wanted = True
            if not running.is_alive():
                running.start(self._environment, self._folder)

    # ---- inside --------------------------------------------------------------------------------------

    def _start_watchdog(self) -> None:
        self._watchdog = subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-m", "gateway.lab.watchdog", self._identity],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=Path(__file__).resolve().parents[2],
            start_new_session=True,
        )

    def _watch(self) -> None:
        while not self._ending.wait(WATCH_SECONDS):
            with self._changes:
                for running in self._table.values():
                    self._look_after(running)

    def _look_after(self, running: Running) -> None:
        if not running.wanted or running.is_alive():
            return
        if running.process is not None:
            end_group(running.process.pid)  # the children of a dead leader hold its port and its claims
            running.process = None
            running.restarts += 1
            running.schedule(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, CALM_SECONDS)
        if time.monotonic() >= running.not_before:
            try:
                running.start(self._environment, self._folder)
            except LabError:
                # The system lacks memory or processes for the moment: try again, as after a crash.
                running.started = time.monotonic()
                running.schedule(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, CALM_SECONDS)

    def _wait_ready(self, chosen: Sequence[Running], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for running in chosen:
            while not running.is_ready():
                hopeless = running.restarts >= HOPELESS_RESTARTS and not running.was_ready
                if hopeless or time.monotonic() > deadline:
                    raise LabError(
                        f"{running.program.name} does not become ready; the end of {running.output}:\n"
                        f"{running.output.read_text(encoding='utf-8', errors='replace')[-2000:].strip()}"
                    )
                time.sleep(_POLL_SECONDS)
            running.was_ready = True

    def _wait_ended(self, running: Running, timeout: float) -> None:
        process = running.process
        if process is None:
            return
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        end_group(process.pid)
        with self._changes:
            running.process = None
