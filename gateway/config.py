"""Load config.yaml into a frozen, validated model.

`load` returns a model whose values have their type, unit and bounds. If the file has errors, it raises
ConfigurationError with one line for each: file, key, value and what is expected. A relative path in the file
is relative to the folder of the file, so that every process finds the same files from any directory.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from gateway import config_text
from gateway.domain import allowlist
from gateway.domain.identifiers import is_ae_title, is_uid
from gateway.domain.routing import DEFAULT_APPLICATION, Mode, Route, Targets
from gateway.errors import ConfigurationError
from gateway.rules.language import Accepts
from gateway.rules.ruleset import RuleSet
from gateway.rules.tree import AcceptRule

PATH_VARIABLE = "MINI_PACS_CONFIG"
DEFAULT_PATH = "config.yaml"
AS_ARCHIVES = ("as_archives",)
"""`edge.accepted_transfer_syntaxes: as_archives`, in the form of a list."""
MAX_ARCHIVES = 16
MAX_APPLICATIONS = 16
"""The envelope of an instance names each of its targets, and has a fixed length."""

_APPLICATION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


def _ae_title(text: str) -> str:
    if not is_ae_title(text):
        raise ValueError("an AE title has 1 to 16 printable characters, no backslash, no outer spaces")
    return text


def _caller(text: str) -> str:
    allowlist.parse(text)
    return text


def _uid(text: str) -> str:
    if not is_uid(text):
        raise ValueError("a UID has at most 64 digits and dots")
    return text


def _application_name(text: str) -> str:
    if not _APPLICATION_NAME.fullmatch(text):
        raise ValueError(
            "the name of an application has 1 to 32 lower-case letters, digits, - and _, and begins with a "
            "letter or digit"
        )
    return text


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        raise ValueError("an address or a network is expected, such as 10.1.2.3 or 10.1.2.0/24") from error
    return text


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"duplicate entry {value}: an order of preference names each once")
    return values


def _or_as_archives(value: object, listed: ValidatorFunctionWrapHandler) -> object:
    if isinstance(value, str):
        if value != AS_ARCHIVES[0]:
            raise ValueError(f"a list of UIDs, or {AS_ARCHIVES[0]}, is expected")
        return AS_ARCHIVES
    return AS_ARCHIVES if value == list(AS_ARCHIVES) else listed(value)


AETitle = Annotated[str, AfterValidator(_ae_title)]
Caller = Annotated[str, AfterValidator(_caller)]
"""An entry of the allowlist, as text; `gateway.domain.allowlist` parses it."""
Uid = Annotated[str, AfterValidator(_uid)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]
Outstanding = Annotated[int, Field(ge=1, le=10_000)]
Redispatches = Annotated[int, Field(ge=0, le=100)]
Affinity = Literal["instance", "study"]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$")]
ApplicationName = Annotated[str, AfterValidator(_application_name)]


class Section(BaseModel):
    """A section of the file. An unknown key is an error: a misspelt one would silently leave the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _no_yes_or_no(cls, values: object) -> object:
        """Refuse true and false: YAML reads `yes` as true, which pydantic would take for the number 1."""
        if isinstance(values, dict):
            for key, value in values.items():
                field = cls.model_fields.get(key) if isinstance(key, str) else None
                if isinstance(value, bool) and field is not None and field.annotation is not bool:
                    raise ValueError(f"{key} = {str(value).lower()}: a number or a text is expected")
        return values


class Urgent(Section):
    """Instances that are sent before the others, besides those with C-STORE priority HIGH."""

    calling_aets: tuple[AETitle, ...] = ()
    modalities: tuple[Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$")], ...] = ()


class EdgeTls(Section):
    """TLS of the Storage SCP: its certificate, and whether senders need one."""

    certificate: Path
    key: Path
    ca: Path | None = None
    client_certificate: Literal["required", "none"] = "required"

    @model_validator(mode="after")
    def _required_needs_a_ca(self) -> Self:
        if (self.client_certificate == "required") != (self.ca is not None):
            raise ValueError(
                "client certificates are verified with ca: set ca, or set client_certificate: none"
            )
        return self


class DestinationTls(Section):
    """TLS to a destination: how its certificate is verified, and which one the edge presents."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    verify: Literal["host", "chain", "none"] = "host"

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or neither")
        if (self.verify == "none") != (self.ca is None):
            raise ValueError("the peer's certificate is verified with ca: set ca, or set verify: none")
        return self


class Edge(Section):
    """The Storage SCP and the spool."""

    ae_title: AETitle
    bind_address: str = "0.0.0.0"  # noqa: S104  the edge serves the hospital's network
    port: Port = 11112
    tls: EdgeTls | None = None
    data_root: Path = Path("data")
    log_path: Path = Path("logs/edge.log")
    allowed_calling_aets: tuple[Caller, ...]
    accepted_sop_classes: tuple[Uid, ...] = ()
    additional_sop_classes: tuple[Uid, ...] = ()
    accepted_transfer_syntaxes: Annotated[
        tuple[Uid, ...], AfterValidator(_distinct), WrapValidator(_or_as_archives)
    ] = ()
    receivers: Annotated[int, Field(ge=0, le=64)] = 0
    max_associations: Annotated[int, Field(ge=1, le=10_000)] = 1000
    max_associations_per_peer: Annotated[int, Field(ge=1, le=10_000)] = 600
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=1 << 20)] = 131_072
    artim_timeout_seconds: Seconds = 30
    network_timeout_seconds: Seconds = 60
    idle_timeout_seconds: Seconds = 600
    stop_grace_seconds: Seconds = 30
    commit_timeout_seconds: Seconds = 10
    duplicate_window_seconds: Annotated[float, Field(ge=0, le=30 * 24 * 3600)] = 30
    disk_reserve_mb: Annotated[int, Field(ge=0)] = 512
    max_unregistered_hours: Annotated[float, Field(gt=0, le=24 * 30)] = 24
    search_key: Path | None = None
    result_series_description: Annotated[str, Field(min_length=1, max_length=64)] = "AI_RESULT"
    urgent: Urgent = Urgent()
    log_max_mb: Annotated[int, Field(ge=1)] = 50
    log_backups: Annotated[int, Field(ge=0, le=100)] = 5

    @property
    def accepts_as_archives(self) -> bool:
        """Whether senders are offered the transfer syntaxes that the archives accept."""
        return self.accepted_transfer_syntaxes == AS_ARCHIVES

    @property
    def allowed_callers(self) -> tuple[allowlist.Entry, ...]:
        """The callers that may associate, and their addresses."""
        return tuple(map(allowlist.parse, self.allowed_calling_aets))

    @property
    def calling_ae_titles(self) -> tuple[str, ...]:
        """The AE titles that may call, each once, in the order of the file."""
        return tuple(dict.fromkeys(entry.ae_title for entry in self.allowed_callers))

    @property
    def duplicate_window(self) -> timedelta:
        """How long after its delivery a repeat creates no new delivery."""
        return timedelta(seconds=self.duplicate_window_seconds)


class Destination(Section):
    """A peer that the edge sends to."""

    host: Annotated[str, Field(min_length=1)]
    port: Port
    ae_title: AETitle
    timeout_s: Seconds = 30
    tls: DestinationTls | None = None

    @property
    def timeout(self) -> timedelta:
        """How long this peer may take for one DIMSE response."""
        return timedelta(seconds=self.timeout_s)


class Worker(Destination):
    """One worker of an application. It calls with one of `calling_ae_titles`, by default with `ae_title`."""

    calling_ae_titles: Annotated[tuple[AETitle, ...], Field(min_length=1)] | None = None

    @property
    def calling_titles(self) -> tuple[str, ...]:
        """The AE titles that it uses as a caller."""
        return self.calling_ae_titles or (self.ae_title,)


class PacsDestination(Destination):
    """The PACS. It gets what its rule accepts; without a rule everything."""

    accepts: Accepts | None = None
    max_instances_per_second: Annotated[float, Field(ge=1, le=10_000)] | None = None


class ArchiveDestination(PacsDestination):
    """An archive beside the PACS. With `results: false` it gets originals only."""

    results: bool = True


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
    applications: Annotated[dict[ApplicationName, Application], Field(max_length=MAX_APPLICATIONS)] = {}

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

    @property
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
    def all_archives(self) -> tuple[PacsDestination, ...]:
        """The PACS, then the other archives."""
        return (self.orthanc, *self.archives)

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Every peer that the edge sends to: the PACS first, the other archives, the workers."""
        return (*self.all_archives, *self.all_workers)

    @property
    def targets(self) -> Targets:
        """The targets: the PACS, the other archives, the applications."""
        return Targets(
            pacs=self.orthanc.ae_title,
            archives=tuple(archive.ae_title for archive in self.archives),
            archives_without_results=frozenset(a.ae_title for a in self.archives if not a.results),
            applications=tuple(self.applications_in_force),
        )

    @property
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


class Sweep(Section):
    """The sweep, which runs each minute."""

    retention_hours: Annotated[float, Field(gt=0)] = 24
    history_days: Annotated[float, Field(ge=0, le=36_500)] = 400
    orphan_grace_seconds: Seconds = 300
    reconcile_grace_seconds: Seconds = 60


class Metrics(Section):
    """Where `mini-pacs metrics` serves the figures for Prometheus."""

    bind_address: str = "127.0.0.1"
    port: Port = 9112


class ConsoleTls(Section):
    """TLS of the console: its certificate."""

    certificate: Path
    key: Path


class Console(Section):
    """`mini-pacs console`: where it listens, and who may use it."""

    bind: str = "127.0.0.1"
    port: Port = 8080
    hosts: tuple[HostName, ...] = ()
    tls: ConsoleTls | None = None
    idle_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 30
    trusted_header: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")] | None = None
    trusted_proxy: Annotated[str, AfterValidator(_network)] | None = None
    viewer_url: Annotated[str, Field(pattern=r"^https?://[^\s\"'<>]+$")] | None = None
    allow_faults: bool = False

    @model_validator(mode="after")
    def _header_needs_a_proxy(self) -> Self:
        if (self.trusted_header is None) != (self.trusted_proxy is None):
            raise ValueError(
                "trusted_header and trusted_proxy belong together: the header of another address is ignored"
            )
        return self

    @property
    def idle(self) -> timedelta:
        """How long a session lasts without use."""
        return timedelta(minutes=self.idle_minutes)


class Webhook(Section):
    """An URL that gets each message as a JSON document by POST."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    authorization_file: Path | None = None


class Mail(Section):
    """A mail server, and who gets the messages."""

    host: Annotated[str, Field(min_length=1)]
    port: Port = 25
    sender: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
    recipients: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")], ...], Field(min_length=1)
    ]
    starttls: Literal["required", "none"] = "none"
    username: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together: give both or neither")
        return self


class Notify(Section):
    """The endpoints that get a message when a finding opens or closes."""

    webhook: Webhook | None = None
    mail: Mail | None = None
    severity: Literal["problem", "note"] = "problem"
    after_seconds: Annotated[float, Field(ge=0, le=24 * 3600)] = 60
    at_most_every_seconds: Annotated[float, Field(ge=0, le=24 * 3600)] = 300
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10

    @model_validator(mode="after")
    def _has_an_endpoint(self) -> Self:
        if self.webhook is None and self.mail is None:
            raise ValueError("notify has neither webhook nor mail: give one of them, or leave notify out")
        return self


class Configuration(Section):
    """The whole file; `source` is its path."""

    source: Path
    edge: Edge
    forwarder: Forwarder
    sweep: Sweep = Sweep()
    metrics: Metrics = Metrics()
    console: Console = Console()
    notify: Notify | None = None
    _content: Mapping[str, object] = PrivateAttr(default_factory=dict)

    @property
    def content(self) -> Mapping[str, object]:
        """The keys and values of the file, as they are written there; empty if it was made without a file."""
        return self._content

    @property
    def digest(self) -> str:
        """SHA-256 of keys and values of the file: comments, layout and order of keys do not count."""
        return hashlib.sha256(json.dumps(self._content, sort_keys=True, default=str).encode()).hexdigest()

    @model_validator(mode="after")
    def _peers_agree(self) -> Self:
        forwarder = self.forwarder
        workers = forwarder.worker_ae_titles
        titles = [self.edge.ae_title, *(archive.ae_title for archive in forwarder.all_archives), *workers]
        listed = [worker.ae_title for worker in forwarder.workers]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        twice += sorted({title for title in listed if listed.count(title) > 1})
        if twice:
            raise ValueError(
                f"AE title {twice[0]} is used twice among edge.ae_title, forwarder.orthanc, "
                "forwarder.archives and the workers: give each peer an AE title of its own"
            )
        self._workers_may_call()
        if forwarder.mode is not Mode.PACS_ONLY and not workers:
            raise ValueError(
                f"forwarder.mode is {forwarder.mode} but forwarder.workers is empty, and there are no "
                "forwarder.applications: list workers, or set mode: pacs_only"
            )
        problem = allowlist.find_problem(self.edge.allowed_callers)
        if problem is not None:
            raise ValueError(f"edge.allowed_calling_aets: {problem}")
        return self

    def _workers_may_call(self) -> None:
        others = {self.edge.ae_title: "the edge", self.forwarder.orthanc.ae_title: "the PACS"}
        others |= {archive.ae_title: "an archive" for archive in self.forwarder.archives}
        for worker in self.forwarder.all_workers:
            for title in worker.calling_titles:
                name = f"worker {worker.ae_title}" + (
                    "" if title == worker.ae_title else f" calls as {title}, which"
                )
                if title in others:
                    raise ValueError(f"{name} is also the AE title of {others[title]}")
                if title not in self.edge.calling_ae_titles:
                    raise ValueError(
                        f"{name} is not in edge.allowed_calling_aets: its results would be rejected"
                    )

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Every peer that the edge sends to: the PACS first, the other archives, the workers."""
        return self.forwarder.destinations

    def destination(self, ae_title: str) -> Destination:
        """Return the peer with that AE title; KeyError if the configuration has none (any more)."""
        for destination in self.destinations:
            if destination.ae_title == ae_title:
                return destination
        raise KeyError(ae_title)


def path() -> Path:
    """Return the path that `load` reads by default: `MINI_PACS_CONFIG`, else ./config.yaml."""
    return Path(os.environ.get(PATH_VARIABLE) or DEFAULT_PATH)


def load(source: Path | None = None) -> Configuration:
    """Return the configuration of `source` (default: `path()`).

    Raises:
        ConfigurationError: the file cannot be read, is not YAML, or has invalid keys or values.
    """
    hint = f"set {PATH_VARIABLE} to the path of a config.yaml"
    source = source or path()
    try:
        source = source.absolute()
    except OSError as error:  # the current directory was deleted
        raise ConfigurationError(
            f"cannot read {source}: the current folder: {error.strerror}; {hint}"
        ) from error
    return of_content(config_text.read(source, hint=hint), source)


def of_content(content: Mapping[str, object], source: Path) -> Configuration:
    """Return the configuration with these keys and values, as if they stood in the file `source`.

    Raises:
        ConfigurationError: it has invalid keys or values.
    """
    if "source" in content:  # a field of the model, not a key of the file
        raise ConfigurationError(f"{source}: unknown key source")
    try:
        configuration = Configuration.model_validate({**content, "source": source})
    except ValidationError as error:
        raise ConfigurationError(config_text.sentences(source, Configuration, error)) from error
    configuration = _with_paths_from(source.parent, configuration)
    configuration._content = dict(content)  # noqa: SLF001  no field: it is no key of the file
    _check_log(source, configuration.edge)
    return configuration


def _check_log(source: Path, edge: Edge) -> None:
    """Refuse a log file inside the spool: the sweep would move or delete it."""
    log_path = Path(os.path.realpath(edge.log_path))
    if log_path.is_relative_to(os.path.realpath(edge.data_root)):
        raise ConfigurationError(
            f"{source}: edge.log_path = {edge.log_path} lies inside edge.data_root ({edge.data_root}), whose "
            "files the sweep moves and deletes: name a folder outside of it"
        )


_S = TypeVar("_S", bound=Section)


def _with_paths_from(folder: Path, section: _S) -> _S:
    """Return the section with each relative path, at any depth, made absolute from `folder`."""
    return section.model_copy(
        update={name: _path_from(folder, getattr(section, name)) for name in type(section).model_fields}
    )


def _path_from(folder: Path, value: object) -> object:
    if isinstance(value, Path):
        if "\0" in str(value):
            raise ConfigurationError(f"{str(value)!r} is no path: it holds a NUL character")
        try:
            return folder / value.expanduser()
        except RuntimeError as error:  # `~name` of a user that does not exist
            raise ConfigurationError(f"{value}: {error}") from error
    if isinstance(value, Section):
        return _with_paths_from(folder, value)
    if isinstance(value, tuple):
        return tuple(_path_from(folder, one) for one in value)
    if isinstance(value, dict):
        return {key: _path_from(folder, one) for key, one in value.items()}
    return value
