"""The section `forwarder` of config.yaml: archives, applications, retries."""

import re
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from gateway.config.destination import (
    ArchiveDestination,
    Destination,
    PacsDestination,
    StorageDestination,
    Worker,
)
from gateway.config.section import Seconds, Section
from gateway.domain.routing import DEFAULT_APPLICATION, Mode, Route, Targets
from gateway.rules.language import Accepts
from gateway.rules.ruleset import RuleSet
from gateway.rules.tree import AcceptRule

MAX_ARCHIVES = 16
MAX_APPLICATIONS = 16
"""The envelope of an instance names each of its targets, and has a fixed length."""


_APPLICATION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


def _application_name(text: str) -> str:
    if not _APPLICATION_NAME.fullmatch(text):
        raise ValueError(
            "the name of an application has 1 to 32 lower-case letters, digits, - and _, and begins with a "
            "letter or digit"
        )
    return text


Outstanding = Annotated[int, Field(ge=1, le=10_000)]
Redispatches = Annotated[int, Field(ge=0, le=100)]
Affinity = Literal["instance", "study"]
ApplicationName = Annotated[str, AfterValidator(_application_name)]


Wait = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]
Late = Literal["new_only", "resend_all", "ignore"]
_OF_UNITS = ("complete_after_seconds", "max_wait_seconds", "late")


class Application(Section):
    """One kind of AI: its workers are replicas of each other, and one of them gets an instance.

    A missing key has the value of the section forwarder: see `Forwarder.applications_in_force`.
    """

    accepts: Accepts | None = None
    unit: Literal["instance", "series", "study"] = "instance"
    complete_after_seconds: Wait = 30
    max_wait_seconds: Wait = 900
    late: Late = "new_only"
    result_timeout_seconds: Seconds | None = None
    max_outstanding: Outstanding | None = None
    affinity: Affinity | None = None
    max_redispatch: Redispatches | None = None
    workers: Annotated[tuple[Worker, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.unit == "instance":
            given = [
                name for name in _OF_UNITS if getattr(self, name) != type(self).model_fields[name].default
            ]
            if given:
                raise ValueError(f"{given[0]} is for unit: series or study; here unit is instance")
        elif self.affinity is not None:
            raise ValueError(
                f"affinity is for unit: instance; here one worker gets the whole {self.unit} anyway"
            )
        if self.max_wait_seconds < self.complete_after_seconds:
            raise ValueError(
                f"max_wait_seconds ({self.max_wait_seconds:g}) must not be less than complete_after_seconds "
                f"({self.complete_after_seconds:g}): the quiet time would never count"
            )
        titles = [worker.ae_title for worker in self.workers]
        if len(set(titles)) < len(titles):
            twice = next(title for title in titles if titles.count(title) > 1)
            raise ValueError(f"worker {twice} is listed twice: list each worker of an application once")
        return self


class ApplicationInForce(Section):
    """An application with all of its values."""

    name: str
    unit: Literal["instance", "series", "study"]
    complete_after_seconds: float = 30
    max_wait_seconds: float = 900
    late: Late = "new_only"
    result_timeout_seconds: float
    max_outstanding: int
    affinity: Affinity
    max_redispatch: int
    workers: tuple[Worker, ...]

    @property
    def result_timeout(self) -> timedelta:
        """How long a worker may take for its result."""
        return timedelta(seconds=self.result_timeout_seconds)


class Forwarder(Section):
    """Where instances are sent, and how failed attempts are repeated."""

    mode: Mode = Mode.PARALLEL
    max_retries: Annotated[int, Field(ge=0, le=1000)] = 5
    backoff_base_seconds: Seconds = 2
    backoff_max_seconds: Seconds = 300
    give_up_after_hours: Annotated[float, Field(gt=0, le=24 * 365)] = 72
    lease_seconds: Seconds = 120
    connect_timeout_seconds: Seconds = 5
    breaker_failures: Annotated[int, Field(ge=1, le=1000)] = 3
    probe_interval_seconds: Seconds = 5
    max_associations_per_peer: Annotated[int, Field(ge=1, le=64)] = 4
    association_idle_seconds: Seconds = 5
    worker_timeout_seconds: Seconds = 10
    worker_max_outstanding: Outstanding = 8
    worker_affinity: Affinity = "instance"
    max_redispatch: Redispatches = 2
    orthanc: PacsDestination
    archives: Annotated[tuple[ArchiveDestination, ...], Field(max_length=MAX_ARCHIVES)] = ()
    workers: tuple[Worker, ...] = ()
    applications: Annotated[dict[ApplicationName, Application], Field(max_length=MAX_APPLICATIONS)] = {}  # noqa: RUF012  pydantic copies the default

    @model_validator(mode="after")
    def _workers_are_listed_once(self) -> Self:
        if self.workers and self.applications:
            raise ValueError(
                "workers and applications are both given: move the list workers into an application, for "
                f"example applications: {{{DEFAULT_APPLICATION}: {{workers: […]}}}}"
            )
        known: dict[str, tuple[str, Worker]] = {}
        for name, application in self.applications.items():
            for worker in application.workers:
                first, same = known.setdefault(worker.ae_title, (name, worker))
                if same != worker:
                    raise ValueError(
                        f"worker {worker.ae_title} has other keys in application {name} than in {first}: one "
                        "worker may serve several applications, with the same keys in each"
                    )
        return self

    @model_validator(mode="after")
    def _lease_exceeds_timeouts(self) -> Self:
        longest = max(d.timeout_s for d in self.destinations) + self.connect_timeout_seconds
        if self.lease_seconds <= longest:
            raise ValueError(
                f"lease_seconds ({self.lease_seconds:g}) must exceed the longest timeout_s plus "
                f"connect_timeout_seconds ({longest:g}): a claim must last longer than one attempt"
            )
        return self

    @cached_property
    def applications_in_force(self) -> dict[str, ApplicationInForce]:
        """The applications by name; the list `workers` is the application `default`."""
        given = self.applications
        if self.workers:
            given = {DEFAULT_APPLICATION: Application(workers=self.workers)}
        return {name: self._in_force(name, application) for name, application in given.items()}

    def _in_force(self, name: str, application: Application) -> ApplicationInForce:
        redispatch = application.max_redispatch
        return ApplicationInForce(
            name=name,
            unit=application.unit,
            complete_after_seconds=application.complete_after_seconds,
            max_wait_seconds=application.max_wait_seconds,
            late=application.late,
            result_timeout_seconds=application.result_timeout_seconds or self.worker_timeout_seconds,
            max_outstanding=application.max_outstanding or self.worker_max_outstanding,
            affinity=application.affinity or self.worker_affinity,
            max_redispatch=self.max_redispatch if redispatch is None else redispatch,
            workers=application.workers,
        )

    @property
    def all_workers(self) -> tuple[Worker, ...]:
        """Every worker once, in the order of the file."""
        of_applications = (w for application in self.applications.values() for w in application.workers)
        return tuple({worker.ae_title: worker for worker in (*self.workers, *of_applications)}.values())

    @property
    def worker_ae_titles(self) -> tuple[str, ...]:
        """The AE titles of the workers, each once, in the order of the file."""
        return tuple(worker.ae_title for worker in self.all_workers)

    @property
    def all_archives(self) -> tuple[StorageDestination, ...]:
        """The PACS, then the other archives."""
        return (self.orthanc, *self.archives)

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Every peer that the edge sends to: the PACS first, the other archives, the workers."""
        return (*self.all_archives, *self.all_workers)

    @cached_property
    def targets(self) -> Targets:
        """The targets: the PACS, the other archives, the applications."""
        return Targets(
            pacs=self.orthanc.ae_title,
            archives=tuple(archive.ae_title for archive in self.archives),
            archives_without_results=frozenset(a.ae_title for a in self.archives if not a.results),
            applications=tuple(self.applications_in_force),
        )

    @cached_property
    def rules(self) -> RuleSet:
        """The rules of all targets."""
        archives = {one.ae_title: one.accepts for one in self.all_archives}
        return RuleSet(
            {
                target: self._rule_of_application(target.name)
                if target.route is Route.WORKERS
                else archives[target.name]
                for target in self.targets.all
            }
        )

    def _rule_of_application(self, name: str) -> AcceptRule | None:
        application = self.applications.get(name)
        return None if application is None else application.accepts

    def route_of(self, ae_title: str) -> Route:
        """Return the route on which a destination gets instances."""
        if ae_title == self.orthanc.ae_title:
            return Route.PACS
        return Route.WORKERS if ae_title in self.worker_ae_titles else Route.ARCHIVES
