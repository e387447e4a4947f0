"""The token for the next page of a list by time. It is the time and id of the last row on a page."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import typer

After = Annotated[
    str | None,
    typer.Option(
        metavar="NEXT",
        help="Print the next page; NEXT is the value of `next` of the page before.",
        show_default=False,
    ),
]
LARGEST_ID = (1 << 63) - 1
"""The largest bigint of PostgreSQL."""
_TOKEN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00)/([0-9a-f-]{1,36})", re.ASCII)


def token(when: datetime, row_id: int | str) -> str:
    """Return the token of a row; its time is in UTC, as PostgreSQL returns it."""
    return f"{when.isoformat()}/{row_id}"


def parted(text: str, id_type: Callable[[str], object]) -> tuple[datetime, str]:
    """Return time and id of a token; raise a usage error where the text is no token."""
    found = _TOKEN.fullmatch(text)
    try:
        if found is not None:
            return datetime.fromisoformat(found[1]), str(id_type(found[2]))
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is not the `next` of a page before", param_hint="--after")
