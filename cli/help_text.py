"""The help of commands, taken from their docstrings."""

import inspect
from collections.abc import Callable

import typer


def unwrapped(command: Callable[..., object]) -> str:
    """Return the docstring with each paragraph on one line; Typer would keep its line breaks."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def unwrap(app: typer.Typer) -> None:
    """Unwrap the help of each command of `app`."""
    for command in app.registered_commands:
        if command.callback is not None and command.help is None:
            command.help = unwrapped(command.callback)
