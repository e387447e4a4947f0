"""Decide to which targets an instance is sent, and in which order.

A *target* is what an instance is owed to: one archive, or one application. An archive keeps what it gets;
the PACS is the first of them. An application is one kind of AI; its workers are replicas of each other, and
one of them gets the instance. A delivery is one instance that is owed to one target.

A target has a name. That of an archive, the PACS too, is its AE title. That of an application is its key in
`forwarder.applications`; the workers of the list `forwarder.workers` make up the application `default`.

A *route* is a kind of targets. It has processes of its own, and each of its targets has a queue:

    route      targets                  queue
    pacs       the PACS                 pacs
    archives   the other archives       archives.<AE title>
    workers    the applications         workers for `default`, else workers.<name>
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from gateway.domain.instance import Kind


class Route(StrEnum):
    """A kind of targets. Its value is the name that its processes are started with (`dramatiq actors -Q`)."""

    PACS = "pacs"
    WORKERS = "workers"
    ARCHIVES = "archives"

    @property
    def is_archive(self) -> bool:
        """Whether its targets keep what they get: the PACS and the other archives."""
        return self is not Route.WORKERS


DEFAULT_APPLICATION = "default"
"""The application that the workers of `forwarder.workers` make up."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One archive, by its AE title, or one application, by its name."""

    route: Route
    name: str

    def __str__(self) -> str:
        return f"{self.route.value}:{self.name}"

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the target whose text `str` gives."""
        route, _, name = text.partition(":")
        return cls(Route(route), name)

    @property
    def queue(self) -> str:
        """The queue of its messages; the SQL function `queue_of` gives the same."""
        if self.route is Route.PACS or (self.route, self.name) == (Route.WORKERS, DEFAULT_APPLICATION):
            return self.route.value
        return f"{self.route.value}.{self.name}"


def route_of_queue(queue_name: str) -> Route | None:
    """Return the route whose messages a queue holds; None for another queue."""
    name, dot, _ = queue_name.partition(".")
    if queue_name == Route.PACS:
        return Route.PACS
    return Route(name) if name in _WITH_QUEUES or (not dot and name in set(Route)) else None


_WITH_QUEUES = frozenset({Route.ARCHIVES.value, Route.WORKERS.value})
"""The routes of which each target has a queue."""


class Origin(StrEnum):
    """What a caller is, by AE title and address. This keeps instances from going round in a loop."""

    SENDER = "sender"  # none of the others
    ARCHIVE = "archive"  # the title of an archive, from the address of that archive
    PERHAPS_ARCHIVE = "perhaps_archive"  # only the title is that of an archive, or only the address
    WORKER = "worker"  # the title of a worker, or an address that only workers have


class Mode(StrEnum):
    """`forwarder.mode` of the configuration."""

    PARALLEL = "parallel"  # originals go to all archives and applications
    PACS_ONLY = "pacs_only"  # originals go to all archives, to no application
    WORKERS_ONLY = "workers_only"  # originals go to all applications, to no archive


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets of the configuration, in its order. `archives` are those beside the PACS."""

    pacs: str
    archives: tuple[str, ...] = ()
    archives_without_results: frozenset[str] = frozenset()
    applications: tuple[str, ...] = (DEFAULT_APPLICATION,)

    all: tuple[Target, ...] = field(init=False, compare=False)
    """Every target: the PACS, the other archives, the applications."""
    of_results: tuple[Target, ...] = field(init=False, compare=False)
    """The targets of a result."""
    _of: dict[tuple[Kind, Mode, str | None], tuple[Target, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    """What `of` has returned."""

    def __post_init__(self) -> None:
        """Set what each reception and each claim asks for."""
        everything = (*self._archives(), *(Target(Route.WORKERS, name) for name in self.applications))
        object.__setattr__(self, "all", everything)
        object.__setattr__(self, "of_results", self.of(Kind.RESULT, Mode.PARALLEL))

    def of(self, kind: Kind, mode: Mode, *, sent_by: str | None = None) -> tuple[Target, ...]:
        """Return the targets to which a new instance is sent.

        A result is sent to archives in every mode, and never to an application, which would make a loop.
        `sent_by` is the AE title of the archive that the caller is for certain: it has the instance, so it is
        never owed it. The PACS is an exception: it gets once what the edge did not know.
        """
        key = kind, mode, sent_by
        found = self._of.get(key)  # each reception asks
        if found is None:
            found = self._of[key] = self._decided(kind, mode, sent_by)
        return found

    def _decided(self, kind: Kind, mode: Mode, sent_by: str | None) -> tuple[Target, ...]:
        archives = [one for one in self._archives() if one.route is Route.PACS or one.name != sent_by]
        if kind is Kind.RESULT:
            return tuple(one for one in archives if one.name not in self.archives_without_results)
        if mode is Mode.WORKERS_ONLY:
            archives = []
        names = () if mode is Mode.PACS_ONLY else self.applications
        return (*archives, *(Target(Route.WORKERS, name) for name in names))

    def _archives(self) -> tuple[Target, ...]:
        return (Target(Route.PACS, self.pacs), *(Target(Route.ARCHIVES, name) for name in self.archives))


class Urgency(StrEnum):
    """How early a queue sends an instance; see `PRIORITY`."""

    URGENT = "urgent"
    ORIGINAL = "original"
    RESULT = "result"


PRIORITY: dict[Urgency, int] = {Urgency.URGENT: 0, Urgency.ORIGINAL: 4, Urgency.RESULT: 6}
"""A smaller number is sent first. On the way to an archive, results come after originals (G5)."""

BEHIND = 7
"""The priority of a delivery whose last attempt broke the association. It comes after all others, so that an
instance that makes a peer crash does not block them."""


def priority_for(kind: Kind, *, urgent: bool) -> int:
    """Return the priority in the queue. C-STORE priority HIGH or `edge.urgent` makes an instance urgent."""
    if urgent:
        return PRIORITY[Urgency.URGENT]
    return PRIORITY[Urgency.RESULT if kind is Kind.RESULT else Urgency.ORIGINAL]
