"""The `next` of a list that is ordered by time: time and id of a page's last row, as `--after` takes it."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import typer

After = Annotated[
    str | None,
    typer.Option(metavar="NEXT", help="The `next` of the page before: go on there.", show_default=False),
]
LARGEST_ID = (1 << 63) - 1
"""A bigint of PostgreSQL."""
_TOKEN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00)/([0-9a-f-]{1,36})", re.ASCII)


def token(when: datetime, row_id: int | str) -> str:
    """What stands for that row; PostgreSQL's times are in UTC."""
    return f"{when.isoformat()}/{row_id}"


def parted(text: str, id_type: Callable[[str], object]) -> tuple[datetime, str]:
    """Time and id of a token; a usage error where no page gave it."""
    found = _TOKEN.fullmatch(text)
    try:
        if found is not None:
            return datetime.fromisoformat(found[1]), str(id_type(found[2]))
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is not the `next` of a page before", param_hint="--after")
