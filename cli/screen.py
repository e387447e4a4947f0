"""How commands write: tables that are not cut where there is no terminal, times, durations, JSON."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

LOG_COLUMNS = 220
"""A file or pipe has no width of its own; a line that is not broken is easier to search."""

MINUTE, HOUR, DAY = 60, 3600, 86_400

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


def console(*, stderr: bool = False) -> Console:
    """Standard output (or error), as wide as the terminal or LOG_COLUMNS."""
    # no markup: a peer's error comment may hold brackets
    made = Console(stderr=stderr, highlight=False, markup=False)
    if not made.is_terminal:
        made.width = LOG_COLUMNS
    return made


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the one style that all commands have."""
    made = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def print_json(document: object) -> None:
    """One JSON document on standard output; durations in seconds."""
    typer.echo(orjson.dumps(document, default=_plain, option=orjson.OPT_INDENT_2).decode())


def _plain(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(type(value).__name__)


def clock(when: datetime | None) -> str:
    """The local time of day, with the date where it is another day's."""
    if when is None:
        return ""
    local = when.astimezone()
    same_day = local.date() == datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """A duration in the unit that suits it: 35 ms, 4.2 s, 3 min, 5 h, 2 d."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.1f} s"


def since(when: datetime, now: datetime) -> str:
    """How long ago that was."""
    return span((now - when).total_seconds())


def dimse(status: int | None) -> str:
    """A DIMSE status as the standard writes it."""
    return "" if status is None else f"0x{status:04X}"
