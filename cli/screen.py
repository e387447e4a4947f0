"""How commands write for people: a console, tables in one style, UIDs that fit."""

import os
from typing import NoReturn

from rich.console import Console
from rich.table import Table

LOG_COLUMNS = 220
"""A file or pipe has no width of its own; a line that is not broken is easier to search."""


class _Screen(Console):
    """A console whose reader may leave, as `head` does: the boundary of the process decides what follows."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def console(*, stderr: bool = False, markup: bool = False, soft_wrap: bool = False) -> Console:
    """Standard output (or error), as wide as the terminal, COLUMNS or LOG_COLUMNS."""
    # markup only for who escapes: a peer's error comment may hold brackets
    made = _Screen(stderr=stderr, highlight=False, markup=markup, soft_wrap=soft_wrap)
    if not made.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        made.width = LOG_COLUMNS
    return made


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the one style that all commands have."""
    made = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def shortened(uid: str, width: int) -> str:
    """A UID in so many columns. Its end stays: the instances of a study differ there."""
    return uid if len(uid) <= width else f"…{uid[len(uid) - width + 1 :]}"


def dimse(status: int | None) -> str:
    """A DIMSE status as the standard writes it."""
    return "" if status is None else f"0x{status:04X}"
