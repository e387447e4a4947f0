"""Well-behaved senders beside the attack, and the time that their requests take."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from support.dicom_peers import ECHO
from support.edge_setup import EdgeSetup, store
from support.synthetic_instances import Instance

from gateway.errors import PeerError

PAUSE_SECONDS = 0.05


@dataclass
class Latencies:
    """The seconds of each request of one service, its association included."""

    name: str
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Return the value that this share does not exceed; 0 if there is none."""
        found = sorted(self.seconds)
        return found[min(len(found) - 1, int(share * len(found)))] if found else 0.0


class Honest:
    """Two threads, one for C-ECHO and one for C-STORE; each request has a new association."""

    def __init__(self, edge: EdgeSetup) -> None:
        self._edge = edge
        self._ending = threading.Event()
        self.echo = Latencies("C-ECHO")
        self.store = Latencies("C-STORE")
        self.acknowledged: list[Instance] = []
        self._threads = [
            threading.Thread(target=self._repeat, args=(self.echo, self._echo)),
            threading.Thread(target=self._repeat, args=(self.store, self._store)),
        ]

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, latencies: Latencies, once: Callable[[], None]) -> None:
        while not self._ending.wait(PAUSE_SECONDS):
            began = time.perf_counter()
            try:
                once()
            except PeerError as error:
                latencies.failures.append(str(error))
            latencies.seconds.append(time.perf_counter() - began)

    def _echo(self) -> None:
        with self._edge.association([ECHO]) as association:
            if association.echo():
                self.echo.failures.append("C-ECHO refused")

    def _store(self) -> None:
        instance = Instance()
        with self._edge.association([instance.context]) as association:
            status, comment = store(association, instance)
        if status:
            self.store.failures.append(f"0x{status:04X} {comment}")
        else:
            self.acknowledged.append(instance)
