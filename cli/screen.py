"""The screen for people: a console, tables in one style, shortened UIDs."""

import os
from typing import NoReturn

from rich.console import Console
from rich.table import Table

LOG_COLUMNS = 220
"""Width for a file or pipe: wide, because a line that is not broken is easier to search."""


class _Screen(Console):
    """A console that raises BrokenPipeError when its reader has ended; cli/boundary.py handles it."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def console(*, stderr: bool = False, markup: bool = False, soft_wrap: bool = False) -> Console:
    """Return a console for standard output or error; its width is the terminal's, COLUMNS or LOG_COLUMNS."""
    # With markup, the caller must escape every text: the error comment of a peer may hold brackets.
    made = _Screen(stderr=stderr, highlight=False, markup=markup, soft_wrap=soft_wrap)
    if not made.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        made.width = LOG_COLUMNS
    return made


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table in the style of all commands."""
    made = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def shortened(uid: str, width: int) -> str:
    """Return the end of a UID in `width` columns: the UIDs of a study differ at their ends."""
    return uid if len(uid) <= width else f"…{uid[len(uid) - width + 1 :]}"


def dimse(status: int | None) -> str:
    """Return a DIMSE status as the standard writes it, as 0xA700."""
    return "" if status is None else f"0x{status:04X}"
