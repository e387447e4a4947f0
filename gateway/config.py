"""Load config.yaml into a frozen, validated model.

`load` returns a model whose values have their type, unit and bounds. If the file has errors, it raises
ConfigurationError with one line for each: file, key, value and what is expected. A relative path in the file
is relative to the folder of the file, so that every process finds the same files from any directory.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from gateway import config_text
from gateway.domain import allowlist
from gateway.domain.identifiers import is_ae_title, is_uid
from gateway.domain.routing import Mode
from gateway.errors import ConfigurationError

PATH_VARIABLE = "MINI_PACS_CONFIG"
DEFAULT_PATH = "config.yaml"


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


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"duplicate entry {value}: an order of preference names each once")
    return values


AETitle = Annotated[str, AfterValidator(_ae_title)]
Caller = Annotated[str, AfterValidator(_caller)]
"""An entry of the allowlist, as text; `gateway.domain.allowlist` parses it."""
Uid = Annotated[str, AfterValidator(_uid)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]


class Section(BaseModel):
    """A section of the file. An unknown key is an error: a misspelt one would silently leave the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _no_yes_or_no(cls, values: object) -> object:
        """Refuse true and false: YAML reads `yes` as true, which pydantic would take for the number 1."""
        if isinstance(values, dict):
            for key, value in values.items():
                if isinstance(value, bool):
                    raise ValueError(f"{key} = {str(value).lower()}: a number or a text is expected")  # noqa: TRY004
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
    accepted_transfer_syntaxes: Annotated[tuple[Uid, ...], AfterValidator(_distinct)] = ()
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
    result_series_description: Annotated[str, Field(min_length=1, max_length=64)] = "AI_RESULT"
    urgent: Urgent = Urgent()
    log_max_mb: Annotated[int, Field(ge=1)] = 50
    log_backups: Annotated[int, Field(ge=0, le=100)] = 5

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
    """An AI application. It sends its results as one of `calling_ae_titles`, by default as `ae_title`."""

    calling_ae_titles: Annotated[tuple[AETitle, ...], Field(min_length=1)] | None = None

    @property
    def calling_titles(self) -> tuple[str, ...]:
        """The AE titles that it uses as a caller."""
        return self.calling_ae_titles or (self.ae_title,)


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
    worker_max_outstanding: Annotated[int, Field(ge=1, le=10_000)] = 8
    worker_affinity: Literal["instance", "study"] = "instance"
    max_redispatch: Annotated[int, Field(ge=0, le=100)] = 2
    orthanc: Destination
    workers: tuple[Worker, ...] = ()

    @model_validator(mode="after")
    def _lease_exceeds_timeouts(self) -> Self:
        longest = max(d.timeout_s for d in (self.orthanc, *self.workers)) + self.connect_timeout_seconds
        if self.lease_seconds <= longest:
            raise ValueError(
                f"lease_seconds ({self.lease_seconds:g}) must exceed the longest timeout_s plus "
                f"connect_timeout_seconds ({longest:g}): a claim must last longer than one attempt"
            )
        return self

    @property
    def worker_ae_titles(self) -> tuple[str, ...]:
        """The AE titles of the workers, in the order of the file."""
        return tuple(worker.ae_title for worker in self.workers)


class Sweep(Section):
    """The sweep, which runs each minute."""

    retention_hours: Annotated[float, Field(gt=0)] = 24
    orphan_grace_seconds: Seconds = 300
    reconcile_grace_seconds: Seconds = 60


class Configuration(Section):
    """The whole file; `source` is its path."""

    source: Path
    edge: Edge
    forwarder: Forwarder
    sweep: Sweep = Sweep()
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
        workers = self.forwarder.worker_ae_titles
        titles = [self.edge.ae_title, self.forwarder.orthanc.ae_title, *workers]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(
                f"AE title {twice[0]} is used twice among edge.ae_title, forwarder.orthanc "
                "and forwarder.workers"
            )
        self._workers_may_call()
        if self.forwarder.mode is not Mode.PACS_ONLY and not workers:
            raise ValueError(f"forwarder.mode is {self.forwarder.mode} but forwarder.workers is empty")
        problem = allowlist.find_problem(self.edge.allowed_callers)
        if problem is not None:
            raise ValueError(f"edge.allowed_calling_aets: {problem}")
        return self

    def _workers_may_call(self) -> None:
        for worker in self.forwarder.workers:
            for title in worker.calling_titles:
                name = f"worker {worker.ae_title}" + (
                    "" if title == worker.ae_title else f" calls as {title}, which"
                )
                if title in {self.edge.ae_title, self.forwarder.orthanc.ae_title}:
                    raise ValueError(f"{name} is also the AE title of the edge or of the PACS")
                if title not in self.edge.calling_ae_titles:
                    raise ValueError(
                        f"{name} is not in edge.allowed_calling_aets: its results would be rejected"
                    )

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Every peer that the edge sends to: the PACS first, then the workers."""
        return (self.forwarder.orthanc, *self.forwarder.workers)

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
    return value
