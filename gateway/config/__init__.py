"""Load config.yaml into a frozen, validated model.

`load` returns a model whose values have their type, unit and bounds. If the file has errors, it raises
ConfigurationError with one line for each: file, key, value and what is expected. A relative path in the file
is relative to the folder of the file, so that every process finds the same files from any directory.

    section      the base class of a section, and the types of values
    edge         the section edge
    destination  the PACS, other archives and workers
    forwarder    the section forwarder
    operation    the sections sweep, metrics, console and notify
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TypeVar

from pydantic import PrivateAttr, ValidationError, model_validator

from gateway import config_text
from gateway.config.destination import Destination
from gateway.config.edge import Edge
from gateway.config.forwarder import Forwarder
from gateway.config.operation import Console, Metrics, Notify, Sweep
from gateway.config.section import Section
from gateway.domain import allowlist
from gateway.domain.routing import Mode
from gateway.errors import ConfigurationError

PATH_VARIABLE = "MINI_PACS_CONFIG"
DEFAULT_PATH = "config.yaml"


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
