"""Compute the flow of a target: how fast instances arrive and leave, its backlog, and the bottleneck."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.domain.routing import Route

BUSY = 0.6
"""If sends wait for answers for at least this share of their time, the target is the bottleneck."""
MANY = 20
"""Fewer waiting deliveries are no backlog."""


class Bottleneck(StrEnum):
    """The cause of a backlog; NONE while there is no backlog, or while it shrinks."""

    NONE = "none"
    CLOSED = "closed"  # the target is paused, or its circuit breaker is open
    NO_PROCESSES = "no_processes"  # no actor process consumes its queue
    PEER = "peer"  # the threads that send to it wait for its answers
    EDGE = "edge"  # its answers are quick; the edge does not send fast enough


@dataclass(frozen=True, slots=True)
class DestinationFlow:
    """What one destination answered: an archive, or one worker of an application."""

    destination: str
    attempts_per_minute: float
    delivered_per_minute: float
    mean_seconds: float


@dataclass(frozen=True, slots=True)
class TargetFlow:
    """The flow of one target. `waiting` and `in_flight` are counted up to a limit.

    `is_arriving` is False when nothing more arrives: then a backlog shrinks, however much arrived before.
    """

    route: Route
    target: str
    arrived_per_minute: float
    delivered_per_minute: float
    failed_per_minute: float
    mean_seconds: float | None
    waiting: int
    in_flight: int
    oldest_send_at: datetime | None
    threads: int
    is_open: bool
    is_arriving: bool
    destinations: tuple[DestinationFlow, ...]

    @property
    def busy(self) -> float:
        """The share of their time that the current sends wait for the target; at most 1.

        A target that accepts two associations keeps two threads busy, however many there are.
        """
        if not self.threads or self.mean_seconds is None:
            return 0.0
        attempts = self.delivered_per_minute + self.failed_per_minute
        at_once = attempts * self.mean_seconds / 60  # on average, by Little's law
        return min(1.0, at_once / min(self.threads, max(self.in_flight, 1)))

    @property
    def drain_seconds(self) -> float | None:
        """How long the backlog takes at this speed; None if it grows, or if nothing leaves."""
        if not self.waiting:
            return 0.0
        shrinks = self.delivered_per_minute - (self.arrived_per_minute if self.is_arriving else 0.0)
        return 60 * self.waiting / shrinks if shrinks > 0 else None

    @property
    def bottleneck(self) -> Bottleneck:
        """The cause of its backlog."""
        if self.waiting < MANY:
            return Bottleneck.NONE
        if not self.is_open:
            return Bottleneck.CLOSED
        if not self.threads:
            return Bottleneck.NO_PROCESSES
        if self.drain_seconds is not None:
            return Bottleneck.NONE
        return Bottleneck.PEER if self.busy >= BUSY or not self.delivered_per_minute else Bottleneck.EDGE
