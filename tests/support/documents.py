"""Read the documentation of the project: its code blocks, and the paths and commands that it names."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

import typer
from pydantic import BaseModel

from cli.main import COMMANDS, build
from gateway.config import Configuration
from support.launcher import REPOSITORY

_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMENT = re.compile(r"\s#.*$")


@cache
def tracked(*patterns: str) -> tuple[Path, ...]:
    """Return the files that Git tracks, or would add, and that match one of `patterns`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return tuple(path for line in listed.splitlines() if (path := REPOSITORY / line).is_file())


def page(name: str) -> str:
    """Return the text of a file of the project."""
    return (REPOSITORY / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """Return the text under `## heading`, up to the next heading of that level."""
    begin = text.index(f"\n## {heading}\n")
    end = text.find("\n## ", begin + 1)
    return text[begin : None if end < 0 else end]


def code(text: str) -> Iterator[str]:
    """Yield each line of a fenced block, without its comment, and each span in backticks."""
    for block in _FENCE.findall(text):
        for line in block.splitlines():
            yield _COMMENT.sub("", line)
    yield from _SPAN.findall(_FENCE.sub("", text))


def make_targets(text: str) -> set[str]:
    """Return the targets of every `make …` in the code of a page."""
    found: set[str] = set()
    for line in code(text):
        for words in re.findall(r"(?:^|(?<=[\s;]))make((?: [^\s;&|]+)+)", line):
            found.update(word for word in words.split() if "=" not in word and not word.startswith("-"))
    return found


def commands(text: str) -> set[str]:
    """Return the words behind each `mini-pacs`, or behind its name in a container, in the code of a page."""
    found: set[str] = set()
    for line in code(text):
        found.update(re.findall(r"(?:mini-pacs|/app/cli\.py) ((?:(?!&&|\||;|│|─)[^\n])+)", line))
    return found


def complaint(command: str) -> str | None:
    """Return what `mini-pacs COMMAND` uses that does not exist; None if all of it exists."""
    noun, *rest = shlex.split(command.split(" …", maxsplit=1)[0])
    if noun.startswith("-"):
        return None if noun in {"--help", "--version", "--install-completion"} else f"no option {noun}"
    if noun not in {known.name for known in COMMANDS}:
        return f"no command {noun}"
    # Typer bundles its own, untyped classes of Click: an object with `commands` is a group
    one: Any = cast("Any", typer.main.get_command(build(noun))).commands[noun]
    while hasattr(one, "commands") and rest and not rest[0].startswith("-"):
        word = rest.pop(0)
        if word not in one.commands:
            return f"no command {noun} {word}"
        one = one.commands[word]
    options = {option for parameter in one.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [
        word for word in rest if word.startswith("--") and word.partition("=")[0] not in {*options, "--help"}
    ]
    return f"no option {unknown[0]}" if unknown else None


def configuration_keys(text: str) -> list[str]:
    """Return every key in backticks, such as `edge.port`, nested keys included."""
    return re.findall(r"`((?:edge|forwarder|sweep|metrics|console)\.[a-z_]+(?:(?:\[\])?\.[a-z_]+)*)", text)


def is_key(name: str) -> bool:
    """Tell whether config.yaml may have that key; `[]` marks a key of each entry of a list."""
    section: type[BaseModel] | None = Configuration
    for part in name.replace("[]", "").split("."):
        if section is None or part not in section.model_fields:
            return False
        section = _section_in(section.model_fields[part].annotation)
    return True


def _section_in(annotation: object) -> type[BaseModel] | None:
    """Return the section in the type of a field, also if it is optional or in a tuple; else None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _section_in(one))), None)
