"""Say in words what differs between two configurations.

It compares the validated models, key by key, so a new key needs nothing here. A default that is written out
is no difference. In a list of peers, each is found by its AE title.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.config import Configuration
from gateway.processes.keys import is_secret, restarts

SHOWN_CHARACTERS = 120
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `key` has two parts, as `edge.port`; `restart` says what must be restarted for it."""

    key: str
    text: str
    restart: str | None


def difference(before: Configuration, after: Configuration) -> list[Change]:
    """Return what `after` changes, in the order of the keys of the model."""
    old, new = (_values(configuration) for configuration in (before, after))
    return [
        Change(key, text, restarts(key))
        for key, value in new.items()
        for text in _texts(key, old.get(key, _MISSING), value)
    ]


def changed_keys(before: Configuration, after: Configuration) -> frozenset[str]:
    """Return the keys whose values differ."""
    return frozenset(change.key for change in difference(before, after))


def _values(configuration: Configuration) -> dict[str, object]:
    """Return the values by `section.key`; those below a key are plain lists and mappings."""
    plain = configuration.model_dump(mode="json", exclude={"source"})
    return {
        f"{section}.{key}": value
        for section, keys in plain.items()
        for key, value in (keys.items() if isinstance(keys, Mapping) else [("", keys)])
    }


def _texts(key: str, old: object, new: object) -> Iterator[str]:
    if old == new:
        return
    if is_secret(key.rpartition(".")[2]):
        yield f"{key}: another value"
    elif old is _MISSING or (old is None and isinstance(new, Mapping)):
        yield f"{key} added{_where(new)}" if isinstance(new, Mapping) else f"{key}: {_shown(new)} added"
    elif new is _MISSING or (new is None and isinstance(old, Mapping)):
        yield f"{key} removed"
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            yield from _texts(f"{key}.{name}", old.get(name, _MISSING), new.get(name, _MISSING))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _of_lists(key, old, new)
    else:
        yield f"{key}: {_shown(old)} → {_shown(new)}"


def _of_lists(key: str, old: Sequence[object], new: Sequence[object]) -> Iterator[str]:
    before, after = _by_name(old), _by_name(new)
    for name in before:
        if name not in after:
            yield f"{key}: {name} removed"
    for name, value in after.items():
        if name not in before:
            yield f"{key}: {name} added{_where(value)}"
        elif isinstance(value, Mapping):
            yield from _texts(f"{key}[{name}]", before[name], value)
    common = [name for name in before if name in after]
    if common != [name for name in after if name in before] or len(old) != len(before):
        yield f"{key}: in another order"


def _by_name(values: Sequence[object]) -> dict[str, object]:
    """Return the entries by AE title; other entries by their text."""
    return {
        str(value.get("ae_title", _shown(value)) if isinstance(value, Mapping) else value): value
        for value in values
    }


def _where(value: object) -> str:
    if isinstance(value, Mapping) and "host" in value and "port" in value:
        return f" ({value['host']}:{value['port']})"
    return ""


def _shown(value: object) -> str:
    if value is None:
        return "(none)"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
