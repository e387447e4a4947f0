"""Which routes an instance is owed to. A route is also the name of its Dramatiq queue."""

from enum import StrEnum

from gateway.domain.instance import Kind


class Route(StrEnum):
    """One instance is owed at most once to each."""

    PACS = "pacs"
    WORKERS = "workers"


class Origin(StrEnum):
    """Who called, by AE title and address; the guards against circles ask for it."""

    SENDER = "sender"  # none of the others
    PACS = "pacs"  # the title of the PACS, from an address that is its own
    PERHAPS_PACS = "perhaps_pacs"  # its title from elsewhere, or another title from its address
    WORKER = "worker"  # a worker, by its title, or by an address where only workers are


class Mode(StrEnum):
    """`forwarder.mode` of the configuration."""

    PARALLEL = "parallel"
    PACS_ONLY = "pacs_only"
    WORKERS_ONLY = "workers_only"


_ROUTES_OF_ORIGINALS: dict[Mode, tuple[Route, ...]] = {
    Mode.PARALLEL: (Route.PACS, Route.WORKERS),
    Mode.PACS_ONLY: (Route.PACS,),
    Mode.WORKERS_ONLY: (Route.WORKERS,),
}


class Urgency(StrEnum):
    """The order within a queue; see `PRIORITY`."""

    URGENT = "urgent"
    ORIGINAL = "original"
    RESULT = "result"


PRIORITY: dict[Urgency, int] = {Urgency.URGENT: 0, Urgency.ORIGINAL: 4, Urgency.RESULT: 6}
"""Smaller goes first. Results stand behind originals on their way to the PACS (G5); what an
interrupted peer failed on is moved behind all of them by `BEHIND`."""

BEHIND = 7
"""The priority of a delivery whose last attempt broke the association: it waits behind the others,
so that an instance that makes a peer crash does not block the rest."""


def routes_for(kind: Kind, mode: Mode) -> tuple[Route, ...]:
    """The routes a new instance is owed to.

    A result is owed to the PACS in every mode and never to a worker: the loop guard.
    """
    return (Route.PACS,) if kind is Kind.RESULT else _ROUTES_OF_ORIGINALS[mode]


def priority_for(kind: Kind, *, urgent: bool) -> int:
    """The place in the queue: C-STORE priority HIGH or a configured rule makes an instance urgent."""
    if urgent:
        return PRIORITY[Urgency.URGENT]
    return PRIORITY[Urgency.RESULT if kind is Kind.RESULT else Urgency.ORIGINAL]
