"""Collect the instances of each series until the series is complete, then pass them on together.

A series is complete when no further instance arrived for a quiet time, or when every association that brought
an instance of it has ended (`Complete`). An instance that arrives later begins a new collection.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from worker_app.settings import Complete, Settings
from worker_app.waiting import WaitingInstance, Work

MAX_COLLECTED = 20_000
"""Instances that are collected or wait, over all series: each is a file in the worker's temporary folder."""


@dataclass(slots=True)
class _Collection:
    """The instances of one series so far, by SOP Instance UID: a repeat replaces the one before."""

    instances: dict[str, WaitingInstance] = field(default_factory=dict)
    associations: set[object] = field(default_factory=set)
    last: float = 0.0


class Collector:
    """Collects series and passes each to `complete`; `run` is the body of its thread."""

    def __init__(
        self, settings: Settings, complete: Callable[[Work], None], stopping: threading.Event
    ) -> None:
        self._settings = settings
        self._complete = complete
        self._stopping = stopping
        self._changed = threading.Condition()
        self._collections: dict[str, _Collection] = {}

    def add(self, series: str, instance: WaitingInstance, association: object) -> None:
        """Add an instance that arrived over `association`."""
        with self._changed:
            collection = self._collections.setdefault(series, _Collection())
            before = collection.instances.pop(instance.sop_instance_uid, None)
            collection.instances[instance.sop_instance_uid] = instance
            collection.associations.add(association)
            collection.last = monotonic()
            self._changed.notify()
        if before is not None:
            before.discard()

    def has_room(self) -> bool:
        """Tell whether a further instance may be collected."""
        with self._changed:
            return sum(len(one.instances) for one in self._collections.values()) < MAX_COLLECTED

    def end(self, association: object) -> None:
        """Note that an association has ended, however it ended."""
        with self._changed:
            for collection in self._collections.values():
                collection.associations.discard(association)
            self._changed.notify()

    def run(self) -> None:
        """Pass on complete series, until the process stops."""
        while not self._stopping.is_set():
            with self._changed:
                ready, wait = self._ready()
                if not ready:
                    self._changed.wait(wait)
            for collection in ready:
                self._complete(
                    Work(tuple(collection.instances.values()), monotonic() + self._settings.delay_seconds)
                )

    def _ready(self) -> tuple[list[_Collection], float]:
        """Take out the collections that are complete; return them, and how long to wait for the next one."""
        now, quiet = monotonic(), self._settings.quiet_seconds
        by_quiet = self._settings.complete is Complete.QUIET
        names = [
            name
            for name, one in self._collections.items()
            if (one.last + quiet <= now if by_quiet else not one.associations)
        ]
        ready = [self._collections.pop(name) for name in names]
        if not by_quiet:
            return ready, 1.0
        return ready, min((one.last + quiet - now for one in self._collections.values()), default=1.0)
