"""Begin and end faults, in the order that the seed gives, while the senders send.

Several faults overlap; two never use the same target at once. From time to time only workers fail for a
while, to measure the effect on the PACS (G5). From time to time PostgreSQL is away and nothing else affects
reception, to judge what senders notice of it (G1). At the end everything is repaired: processes run, proxies
forward, the disk has space.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator

from gateway.errors import GatewayError
from proof.chaos import injected_faults, peer_faults, process_faults
from proof.chaos.faults import (
    AMONG_OTHERS,
    CATALOGUE,
    OUTAGES,
    SWEEP,
    WITHOUT_POSTGRES,
    Done,
    Kind,
    Pick,
    only_workers,
    picks,
    spares_reception,
)
from proof.chaos.setup import Setup

End = Callable[[], None]

ACTIONS: dict[str, Callable[[Setup, Pick], End | None]] = {
    "kill": process_faults.kill,
    "kill child of": process_faults.kill_child,
    "stop": process_faults.stop,
    "stop child of": process_faults.stop_child,
    "take away": process_faults.take_away,
    "restart": process_faults.restart,
    "without PostgreSQL: kill": process_faults.kill,
    "without PostgreSQL: kill child of": process_faults.kill_child,
    "without PostgreSQL: restart": process_faults.restart,
    "hang up on all of": process_faults.hang_up,
    "rejects": peer_faults.misbehave,
    "hangs": peer_faults.misbehave,
    "is slow": peer_faults.misbehave,
    "answers A700": peer_faults.misbehave,
    "answers C000": peer_faults.misbehave,
    "answers B000": peer_faults.misbehave,
    "answers 0111": peer_faults.misbehave,
    "aborts mid data set": peer_faults.misbehave,
    "cut": peer_faults.cut,
    "break": peer_faults.break_after,
    "stall": peer_faults.stall,
    "refuse": peer_faults.refuse,
    "dies mid instance": peer_faults.sender_dies,
    "aborts mid instance": peer_faults.sender_aborts,
    "fill": injected_faults.fill,
    "inject": injected_faults.inject,
}

GAP_SECONDS = 2.5
"""Mean time from one fault to the next."""
STRETCH_EVERY_SECONDS = 55.0
STRETCH_SECONDS = 12.0
OUTAGE_EVERY_SECONDS = 45.0
BEFORE_RECEIVERS_SECONDS = 4.0
"""How long PostgreSQL is away before something happens to the receivers as well."""
STRETCH_GAP_SECONDS = 1.3
LAST_SECONDS = 2.0
"""Receptions this shortly before the end of a period do not count: the next faults may affect them."""
QUIET_SECONDS = 20.0
"""The longest wait, after the last other fault, until its backlog is gone."""
SMALL_BACKLOG = 25
"""Deliveries to the PACS in flight in normal operation: one or two studies."""
READY_SECONDS = 30.0
"""A program of the sweep that is not back by then is reported."""


class FaultRunner:
    """Runs faults against a setup; `backlog` returns how many deliveries are open for the PACS.

    `done` and `stretches` hold the finished faults and periods, in the order of their ends.
    """

    def __init__(self, setup: Setup, seed: int, backlog: Callable[[], int]) -> None:
        self._setup = setup
        self._backlog = backlog
        self._mixed = picks(seed, gap=GAP_SECONDS, first=AMONG_OTHERS)
        workers = [kind for kind in CATALOGUE if only_workers(kind)]
        self._workers = picks(seed, gap=STRETCH_GAP_SECONDS, kinds=workers)
        self._outages = picks(seed, gap=0.0, kinds=OUTAGES)
        self._without = picks(seed, gap=0.0, kinds=WITHOUT_POSTGRES)
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self._threads: dict[threading.Thread, Pick] = {}
        self._postponed: list[Pick] = []
        self._tried: set[Kind] = set()
        self.done: list[Done] = []
        self.skipped: list[str] = []
        self.swept: list[float] = []
        """Times at which a process of the sweep was ready again after its own fault."""
        self.stretches: list[tuple[float, float]] = []
        """Start and end of each period in which only workers failed."""

    def run(self, seconds: float) -> None:
        """Run faults for that many seconds; end all of them and repair everything before the return."""
        limit = time.monotonic() + seconds
        next_stretch = time.monotonic() + STRETCH_EVERY_SECONDS / 2
        next_outage = time.monotonic() + OUTAGE_EVERY_SECONDS / 4
        try:
            while time.monotonic() < limit:
                if time.monotonic() > next_stretch:
                    self._stretch(limit)
                    next_stretch = time.monotonic() + STRETCH_EVERY_SECONDS
                elif time.monotonic() > next_outage:
                    self._outage()
                    next_outage = time.monotonic() + OUTAGE_EVERY_SECONDS
                else:
                    self._begin_next(self._mixed, limit)
        finally:
            self._join(lambda _: True)
            self._mend()

    def _stretch(self, limit: float) -> None:
        """Let only workers fail for a while; end all other faults before."""
        self._join(lambda pick: not only_workers(pick.kind))
        quiet = min(time.monotonic() + QUIET_SECONDS, limit)
        while time.monotonic() < quiet and self._backlog() > SMALL_BACKLOG:
            self._begin_next(self._workers, quiet)
        if self._backlog() > SMALL_BACKLOG:
            return  # the delay of the PACS has another cause than the workers, so nothing can be measured
        began, end = time.time(), min(time.monotonic() + STRETCH_SECONDS, limit)
        while time.monotonic() < end:
            self._begin_next(self._workers, end)
        self.stretches.append((began, time.time() - LAST_SECONDS))

    def _outage(self) -> None:
        """Let PostgreSQL be away, and do something to the receivers meanwhile; spare reception otherwise."""
        self._join(lambda pick: not spares_reception(pick.kind))
        outage = self._next_free(self._outages)
        end = time.monotonic() + outage.seconds
        self._begin(outage)
        self._fill(min(time.monotonic() + BEFORE_RECEIVERS_SECONDS, end))
        self._begin(self._next_free(self._without))
        self._fill(end)

    def _fill(self, limit: float) -> None:
        while time.monotonic() < limit:
            self._begin_next(self._mixed, limit, allowed=spares_reception)

    def _begin_next(
        self, source: Iterator[Pick], limit: float, *, allowed: Callable[[Kind], bool] = lambda _: True
    ) -> None:
        pick = self._next_free(source, allowed)
        self._begin(pick)
        time.sleep(max(0.0, min(pick.gap, limit - time.monotonic())))  # the interval between two faults

    def _begin(self, pick: Pick) -> None:
        thread = threading.Thread(target=self._perform, args=(pick,), name=pick.kind.name)
        self._threads[thread] = pick
        thread.start()

    def _next_free(self, source: Iterator[Pick], allowed: Callable[[Kind], bool] = lambda _: True) -> Pick:
        """Return the next allowed fault whose target is free; postponed faults go first."""
        with self._lock:
            held = self._postponed if source is self._mixed else []
            while True:
                free = next((pick for pick in held if self._is_free(pick) and allowed(pick.kind)), None)
                if free is not None:
                    held.remove(free)
                else:
                    free = next(source)
                if self._is_free(free) and allowed(free.kind):
                    self._taken.add(free.kind.thing)
                    return free
                held.append(free)

    def _is_free(self, pick: Pick) -> bool:
        return pick.kind.thing not in self._taken

    def _perform(self, pick: Pick) -> None:
        try:
            began, restarts = time.time(), self._restarts(pick)
            try:
                end = ACTIONS[pick.kind.action](self._setup, pick)
            except (
                GatewayError,
                OSError,
                subprocess.SubprocessError,
            ) as error:  # PostgreSQL may be down already when its sessions are to end
                self._skip(pick, str(error))
                return
            if end is None:
                self._skip(pick, "there was nothing to do it to")
                return
            time.sleep(pick.seconds)  # the duration of the fault
            end()
            done = Done(pick.kind.name, pick.kind.ways, began, time.time())
            with self._lock:
                self.done.append(done)
            if pick.kind.ways == SWEEP:
                killed = pick.kind.action.startswith("kill")
                self._await_sweep(pick.kind.target, restarts + killed)
        finally:
            with self._lock:
                self._taken.discard(pick.kind.thing)
                self._threads.pop(threading.current_thread(), None)

    def _skip(self, pick: Pick, reason: str) -> None:
        """Postpone the fault, so that a busy target does not remove a kind of fault from the run."""
        with self._lock:
            if pick.kind not in self._tried and not only_workers(pick.kind):
                self._tried.add(pick.kind)
                self._postponed.append(pick)
            else:
                self.skipped.append(f"{pick.kind.name}: {' '.join(reason.split())}")

    def _restarts(self, pick: Pick) -> int:
        name = pick.kind.target
        return self._setup.supervisor.restarts(name) if name in self._setup.supervisor.names else 0

    def _await_sweep(self, name: str, restarts: int) -> None:
        """Wait until the sweep's process is ready, since its work itself runs only once a minute."""
        limit = time.monotonic() + READY_SECONDS
        while time.monotonic() < limit:
            if self._setup.supervisor.restarts(name) >= restarts and self._setup.supervisor.is_ready(name):
                self.swept.append(time.time())
                return
            time.sleep(0.1)

    def _join(self, concerns: Callable[[Pick], bool]) -> None:
        with self._lock:
            threads = [thread for thread, pick in self._threads.items() if concerns(pick)]
        for thread in threads:
            thread.join()

    def _mend(self) -> None:
        setup = self._setup
        setup.disk.relieve()
        for proxy in (setup.sender_proxy, setup.pacs_proxy):
            proxy.mend()
        setup.supervisor.wait_ready()
        if injected_faults.mini_pacs(setup, "clear-faults"):
            raise GatewayError("the faults could not be cleared: see cli.out")
