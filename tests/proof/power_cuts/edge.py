"""The edge of a run: its real programs as forked processes, its PACS and workers, and when it is quiet.

The processes are those of `proof.crash_points`. PACS and workers are outside of the cut: they stay, and note
each data set that they take, with the step at which they answered.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.peers import Peer, Taken
from support.waiting import wait_until

from gateway.lab import layout
from proof.crash_points import ledger
from proof.crash_points.child_processes import Child, actors, scp, sweeper
from proof.crash_points.environment import CHANGES, READY_SECONDS, WORKERS, Run, Senders
from proof.power_cuts.load import Key
from proof.power_cuts.server import Position, end_with_parent

QUEUES = ("pacs", "workers", "sweep")
LOOK_SECONDS = 0.1
OUTSTANDING = 10_000
"""Results that a worker may owe: these workers return none."""

Seen = Counter[tuple[str, Key]]
"""How often a route's peers took a data set whole and answered Success."""


def configuration(data_root: Path) -> dict[str, Any]:
    """Return the content of config.yaml for a spool there."""
    changes = {
        **CHANGES,
        "edge": {**CHANGES["edge"], "data_root": str(data_root)},
        "forwarder": {**CHANGES["forwarder"], "worker_max_outstanding": OUTSTANDING},
    }
    content = layout.configuration(layout.choose_ports(well_known=False), changes)
    content["forwarder"]["workers"] = content["forwarder"]["workers"][:WORKERS]
    return content


class PoweredEdge:
    """One edge on a folder (configuration, log, journal of the peers) and a database."""

    def __init__(self, folder: Path, content: dict[str, Any], dsn: str, position: Position) -> None:
        layout.write(folder, content)
        self.run = Run(folder, dsn, Senders())
        self._position = position
        self._journal = folder / "taken"
        self._children: list[Child] = []

    # ---- processes -----------------------------------------------------------------------------------

    def start_peers(self) -> None:
        """Start PACS and workers; return when they listen."""
        forwarder = self.run.configuration.forwarder
        ports = {forwarder.orthanc.port: "pacs"} | {worker.port: "workers" for worker in forwarder.workers}
        ready = self.run.folder / "ready"

        def work() -> None:
            end_with_parent()
            journal = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for port, route in ports.items():
                peer = Peer(port)
                peer.taken = _Journal(journal, route, self._position)
                peer.on()
            ready.touch()
            signal.pause()

        child = self.run.start("peers", work)
        wait_until(lambda: ready.exists() or child.ended(), READY_SECONDS, "the peers to listen")
        assert not child.ended(), child.text()

    def start(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Start every program; return whether it listens (False: the power went first)."""
        before = self.run.logged("listening")
        receiver = self._start("scp", scp)
        wait_until(
            lambda: stopped() or receiver.ended() or self.run.logged("listening") > before,
            READY_SECONDS,
            "the edge to listen",
        )
        if stopped():
            return False
        self._start("actors", actors(QUEUES, 4))
        self._start("sweep", sweeper)
        self.check()
        return True

    def _start(self, name: str, work: Callable[[], object]) -> Child:
        def ending_with_us() -> None:
            end_with_parent()
            work()

        child = self.run.start(name, ending_with_us)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Fail if a process has ended by itself."""
        for child in self._children:
            assert not child.ended(), f"{child.output.name} ended: {child.text()[-1500:]}"

    def kill(self) -> None:
        """Kill the edge; PACS and workers stay."""
        for child in self._children:
            child.kill()
        self._children.clear()

    def close(self) -> None:
        """Kill everything."""
        self.kill()
        self.run.close()

    # ---- looking -------------------------------------------------------------------------------------

    def is_quiet(self, acknowledged: set[Key]) -> bool:
        """Tell whether everything acknowledged has a row, and nothing is to be done."""
        return self.has_settled_rows(acknowledged) and ledger.settled(self.run)

    def has_settled_rows(self, acknowledged: set[Key]) -> bool:
        """Tell the same of the rows only: the file system may have stopped, and whoever looks would wait."""
        self.check()
        return acknowledged <= set(self.rows()) and ledger.has_settled_rows(self.run)

    def wait_until_quiet(self, acknowledged: set[Key], seconds: float) -> str | None:
        """Wait for it; return what is still to be done after that time."""
        deadline = time.monotonic() + seconds
        while not self.is_quiet(acknowledged):
            if time.monotonic() > deadline:
                missing = len(acknowledged - set(self.rows()))
                return (
                    f"after {seconds:.0f} s {missing} lack a row, not in place: {ledger._strays(self.run)},"
                    f" not delivered: {self.undelivered()}"
                )
            time.sleep(LOOK_SECONDS)  # the interval between two looks
        return None

    def undelivered(self) -> list[tuple[Any, ...]]:
        """Return UID, route, state and last error of each delivery that is not delivered."""
        return self.run.rows(
            "SELECT i.sop_instance_uid, d.route::text, d.state::text, d.last_error FROM deliveries d"
            " JOIN instances i ON i.id = d.instance_id WHERE d.state <> 'delivered' ORDER BY d.id"
        )

    def rows(self) -> dict[Key, tuple[Any, ...]]:
        """Return of each instance its size, place, study, file name, kind and deliveries."""
        return {(uid, digest): tuple(more) for uid, digest, *more in self.run.rows(ledger._ROWS)}

    def taken(self, position: int | None = None) -> Seen:
        """Return what the peers took, until that step if one is given."""
        seen: Seen = Counter()
        if self._journal.exists():
            for line in self._journal.read_text(encoding="ascii").splitlines():
                at, route, uid, digest, status = line.split()
                if status == "0" and (position is None or int(at) <= position):
                    seen[route, (uid, digest)] += 1
        return seen


class _Journal(list[Taken]):
    """The data sets that a peer took, each noted before the answer."""

    def __init__(self, descriptor: int, route: str, position: Position) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._route = route
        self._position = position

    def append(self, taken: Taken) -> None:
        """Append one complete line."""
        super().append(taken)
        line = (
            f"{self._position.get()} {self._route} {taken.sop_instance_uid} {taken.digest} {taken.status}\n"
        )
        os.write(self._descriptor, line.encode())
