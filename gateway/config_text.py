"""Read the text of config.yaml, and describe errors in it for the operator.

YAML allows a key to occur twice and uses the last one. Here that is an error, because a change of the first
one would have no effect. The message about an unknown key or value suggests the most similar valid one.
"""

import re
from collections.abc import Hashable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.errors import ConfigurationError

SHOWN_CHARACTERS = 80
"""How much of a wrong value is quoted; it may be a whole section."""

_NOT_OF_THE_FILE = "source"
"""A field of the model that is not a key of the file."""

_QUOTED = re.compile(r"'([^']*)'")
Location = tuple[int | str, ...]


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses a duplicate key in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  PyYAML's signature
        lines: dict[object, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            line = key_node.start_mark.line + 1
            if key_node.value in lines:
                raise yaml.constructor.ConstructorError(
                    problem=f"duplicate key {key_node.value}, in lines {lines[key_node.value]} and "
                    f"{line}: delete one of them"
                )
            lines[key_node.value] = line
        return super().construct_mapping(node, deep)


def read(source: Path, *, hint: str) -> dict[str, object]:
    """Return the mapping in `source`.

    Raises:
        ConfigurationError: it cannot be read (`hint` says what to do), or is not a mapping of names.
    """
    try:
        content: object = yaml.load(source.read_text(encoding="utf-8"), _Loader)  # noqa: S506  a SafeLoader
    except OSError as error:
        raise ConfigurationError(f"cannot read {source}: {error.strerror}; {hint}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source} is not YAML: it is no UTF-8 text; {hint}") from error
    except yaml.MarkedYAMLError as error:
        raise ConfigurationError(f"{source}{_line(error)}: {error.problem or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # for example a date that does not exist, a very long number, or very deep brackets
        raise ConfigurationError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        raise ConfigurationError(f"{source} is empty: the sections edge and forwarder are expected; {hint}")
    if not isinstance(content, dict):
        raise ConfigurationError(f"{source} must be a mapping with the sections edge and forwarder; {hint}")
    for key in content:
        if not isinstance(key, str):
            raise ConfigurationError(f"{source}: unknown key {key!r}")
    return content


def _line(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    return "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"


def sentences(source: Path, model: type[BaseModel], error: ValidationError) -> str:
    """Return one line for each error: file, key, value, and what was probably meant."""
    return "\n".join(f"{source}: {_sentence(model, fault)}" for fault in error.errors(include_url=False))


def _sentence(model: type[BaseModel], fault: ErrorDetails) -> str:
    location: Location = fault["loc"]
    key = ".".join(map(str, location))
    if not key.isprintable():
        key = repr(key)
    message = fault["msg"].removeprefix("Value error, ")
    match fault["type"]:
        case "extra_forbidden":
            return f"unknown key {key}{_meant_key(model, location)}"
        case "missing":
            return f"key {key} is missing"
        case "model_type" | "model_attributes_type":
            return f"{key}: a section with keys of its own is expected, not {_shown(fault['input'])}"
        case "literal_error" | "enum":
            allowed = _QUOTED.findall(str(fault["ctx"]["expected"]))
            meant = _nearest(str(fault["input"]), allowed)
            return f"{key} = {_shown(fault['input'])}: one of {', '.join(allowed)} is expected{_asked(meant)}"
    if isinstance(fault["input"], dict):
        return f"{key + ': ' if key else ''}{message}"
    return f"{key} = {_shown(fault['input'])}: {message}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _meant_key(model: type[BaseModel], location: Location) -> str:
    """Suggest a similar key of the same section, else the sections that have a key of that name."""
    *before, name = location
    section = _section(model, before)
    known = [] if section is None else [key for key in section.model_fields if key != _NOT_OF_THE_FILE]
    near = _nearest(str(name), known)
    if near:
        return _asked(near)
    return _asked([key for key in _keys(model) if key.rpartition(".")[2] == name][:3])


def _nearest(text: str, known: Sequence[str]) -> list[str]:
    plain = {one.lower(): one for one in known}
    found = get_close_matches(text.lower().replace("-", "_").strip(), plain, n=1, cutoff=0.6)
    return [plain[one] for one in found]


def _asked(meant: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(meant)}?" if meant else ""


def _section(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel] | None:
    is_name = False
    for part in location:
        if isinstance(part, int) or is_name:
            is_name = False
            continue
        field = model.model_fields.get(part)
        found = None if field is None else next(_models(field.annotation), None)
        if field is None or found is None:
            return None
        is_name = get_origin(field.annotation) is dict  # the next part is a name that the file chose
        model = found
    return model


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = next(_models(field.annotation), None)
        if inner is None:
            yield f"{prefix}{name}"
        else:
            yield from _keys(inner, f"{prefix}{name}.")


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
