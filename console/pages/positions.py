"""The position of the next page of a list by time, in the query string: the time and id of the last row."""

from collections.abc import Callable
from datetime import datetime

SEPARATOR = "/"
LONGEST = 120


def position(after: tuple[datetime, str] | None) -> str | None:
    """Return a position as text; None where there is no further page."""
    return None if after is None else f"{after[0].isoformat()}{SEPARATOR}{after[1]}"


def position_of(text: str, id_of: Callable[[str], str]) -> tuple[datetime, str] | None:
    """Return the position of a text; None, the first page, where it is none."""
    when, separator, row_id = text.partition(SEPARATOR)
    if not separator or len(text) > LONGEST:
        return None
    try:
        at = datetime.fromisoformat(when)
        return (at, id_of(row_id)) if at.tzinfo is not None else None
    except ValueError:
        return None
