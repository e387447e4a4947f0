"""Keys and values of a config.yaml as text: for the history in PostgreSQL, and for new receivers."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from gateway import config
from gateway.config import Configuration
from gateway.errors import ConfigurationError
from gateway.processes.keys import AT_RESTART, is_secret

SECRET = "(secret)"  # noqa: S105  stands in place of one


def document_of(configuration: Configuration) -> str:
    """Return keys and values as YAML, without secrets. Paths of keys and certificates are no secrets."""
    return yaml.safe_dump(_without_secrets(configuration.content), sort_keys=False, allow_unicode=True)


def _without_secrets(value: object) -> object:
    if isinstance(value, Mapping):
        return {
            name: SECRET if is_secret(str(name)) and one is not None else _without_secrets(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(one) for one in value]
    return value


def read_document(document: str, source: Path) -> Configuration:
    """Return the configuration of a document, as if it stood in the file `source`.

    Raises:
        ConfigurationError: this version of the program does not take it, or it has secrets.
    """
    content: object = yaml.safe_load(document)
    if not isinstance(content, dict):
        raise ConfigurationError("the stored version is no configuration")
    return config.of_content(content, source)


def with_values_of_start(new: Configuration, running: Configuration) -> Configuration:
    """Return `new` with the values of `running` for each key that is taken at a start only.

    Raises:
        ConfigurationError: both together are not valid, for example a worker has the edge's new AE title.
    """
    content: dict[str, object] = {name: _copied(section) for name, section in new.content.items()}
    for key in AT_RESTART:
        section, name = key.split(".")
        old, target = running.content.get(section), content.get(section)
        if not isinstance(target, dict):
            continue
        target.pop(name, None)
        if isinstance(old, Mapping) and name in old:
            target[name] = old[name]
    return config.of_content(content, new.source)


def _copied(section: object) -> object:
    return dict(section) if isinstance(section, Mapping) else section
