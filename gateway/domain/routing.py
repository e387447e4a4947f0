"""Decide to which routes an instance is sent, and in which order. A route is also the name of its queue."""

from enum import StrEnum

from gateway.domain.instance import Kind


class Route(StrEnum):
    """Where an instance is sent. It has at most one delivery for each route."""

    PACS = "pacs"
    WORKERS = "workers"


class Origin(StrEnum):
    """What a caller is, by AE title and address. This keeps instances from going round in a loop."""

    SENDER = "sender"  # none of the others
    PACS = "pacs"  # the title of the PACS, from the address of the PACS
    PERHAPS_PACS = "perhaps_pacs"  # the PACS's title from another address, or another title from its address
    WORKER = "worker"  # the title of a worker, or an address that only workers have


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
    """How early a queue sends an instance; see `PRIORITY`."""

    URGENT = "urgent"
    ORIGINAL = "original"
    RESULT = "result"


PRIORITY: dict[Urgency, int] = {Urgency.URGENT: 0, Urgency.ORIGINAL: 4, Urgency.RESULT: 6}
"""A smaller number is sent first. On the route to the PACS, results come after originals (G5)."""

BEHIND = 7
"""The priority of a delivery whose last attempt broke the association. It comes after all others, so that an
instance that makes a peer crash does not block them."""


def routes_for(kind: Kind, mode: Mode) -> tuple[Route, ...]:
    """Return the routes to which a new instance is sent.

    A result is sent to the PACS in every mode, and never to a worker, which would make a loop.
    """
    return (Route.PACS,) if kind is Kind.RESULT else _ROUTES_OF_ORIGINALS[mode]


def priority_for(kind: Kind, *, urgent: bool) -> int:
    """Return the priority in the queue. C-STORE priority HIGH or `edge.urgent` makes an instance urgent."""
    if urgent:
        return PRIORITY[Urgency.URGENT]
    return PRIORITY[Urgency.RESULT if kind is Kind.RESULT else Urgency.ORIGINAL]
