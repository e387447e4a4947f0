"""Turn the commands that a finding names into buttons, where the console has the action.

A remedy has commands between backticks, as `mini-pacs destinations resume PACS`. Each one that an action of
the console does gets a button that posts the same to it; the others are text to copy.
"""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from console.views.sentence import marked
from gateway.diagnosis.finding import Finding

_COMMAND = re.compile(r"`(mini-pacs [^`]+)`")


@dataclass(frozen=True, slots=True)
class Button:
    """A button below a finding: where it posts which fields."""

    action: str
    label: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """A finding with its buttons, and the commands that have none."""

    finding: Finding
    buttons: tuple[Button, ...]
    commands: tuple[str, ...]
    says: bool
    """The remedy says more than its commands."""
    remedy: tuple[tuple[str, bool], ...]
    """The remedy in parts: a text, or a command to copy (True)."""
    since: datetime | None
    """Since when it is so; None where its sentence says it."""


def told(finding: Finding, known: frozenset[str]) -> Told:
    """Return the finding with its buttons; `known` are the paths of the actions that there are."""
    buttons, commands = [], []
    for command in _COMMAND.findall(finding.remedy):
        button = button_of(command)
        if button is not None and button.action in known:
            buttons.append(button)
        else:
            commands.append(command)
    says = bool(_COMMAND.sub("", finding.remedy).strip(" ;,."))
    text = f"{finding.remedy[:1].upper()}{finding.remedy[1:]}"
    parts = tuple((part, bool(number % 2)) for number, part in enumerate(_COMMAND.split(text)) if part)
    since = finding.since
    if since is not None and marked(since) in finding.what:
        since = None
    return Told(finding, tuple(buttons), tuple(commands), says, parts, since)


def button_of(command: str) -> Button | None:
    """Return the button that does the same as a command; None if no action does."""
    try:
        words = shlex.split(command)[1:]
    except ValueError:
        return None
    options, plain = _parted(words)
    match plain:
        case ["destinations", ("echo" | "resume" | "pause") as verb, title]:
            return Button(f"/destinations/{verb}", f"{verb.capitalize()} {title}", {"ae_title": title})
        case ["deliveries", ("retry" | "cancel" | "resend") as verb] if options:
            return Button(f"/deliveries/{verb}", _label(verb, options), options)
        case ["clear-faults", name]:
            return Button("/faults/clear", f"Clear {name}", {"name": name})
        case _:
            return None


def _label(verb: str, options: dict[str, str]) -> str:
    what = " ".join(value for name, value in options.items() if name != "study")
    return f"{verb.capitalize()} {what}".strip()


def _parted(words: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return options with their values, and the other words."""
    options: dict[str, str] = {}
    plain: list[str] = []
    name = ""
    for word in words:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            if value:
                options[name], name = value, ""
        elif name:
            options[name], name = word, ""
        else:
            plain.append(word)
    return options, plain
