"""The record of what operators did, by command line or console: who, when, what, how many, and from where.

Rows are only added; a trigger refuses to change or delete them (functions/refuse_change_of_activity.sql), and
`reset-db` spares the table. A function that changes rows adds the record in the same transaction, so no
change is committed without its record.
"""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session

NAME_LENGTH = 200
TEXT_LENGTH = 500
_Q = load("activity")
_NOT_PRINTED = ("C", "Z")
"""Unicode categories that a row has as a space: control and format characters, separators."""


class Via(StrEnum):
    """How somebody acted."""

    CLI = "cli"
    CONSOLE = "console"


class Operator(NamedTuple):
    """Who acts: the user and host of a command, or an account of the console and the browser's address."""

    name: str
    via: Via
    address: str

    @property
    def text(self) -> str:
        """Return `user@host` or `name@console`, for rows and log lines."""
        return f"{self.name}@{self.address if self.via is Via.CLI else self.via.value}"


@dataclass(frozen=True, slots=True)
class Activity:
    """A row of the record."""

    id: int
    at: datetime
    who: str
    via: Via
    address: str
    verb: str
    target: str
    count: int | None
    outcome: str


def record(
    session: Session, operator: Operator, verb: str, target: str, *, count: int | None = None, outcome: str
) -> int:
    """Add a row in the transaction of `session`; return its id. Texts are shortened to their limits.

    `target` and `outcome` hold UIDs, AE titles and ids, never an attribute of a patient.
    """
    return int(
        session.value(
            _Q["record"],
            who=printable(operator.name, NAME_LENGTH) or "unknown",
            via=operator.via.value,
            address=printable(operator.address, NAME_LENGTH),
            verb=verb,
            target=printable(target, TEXT_LENGTH),
            count=count,
            outcome=printable(outcome, TEXT_LENGTH),
        )
    )


def page(
    session: Session, *, limit: int, after: int | None = None, who: str | None = None, verb: str | None = None
) -> list[Activity]:
    """Return rows, newest first; those before the row `after`, if given."""
    return session.rows(Activity, _Q["page"], limit=limit, after=after, who=who, verb=verb)


def printable(text: str, length: int) -> str:
    """Return `text` without control and direction characters, at most `length` characters long."""
    plain = "".join(" " if unicodedata.category(one).startswith(_NOT_PRINTED) else one for one in text)
    return plain if len(plain) <= length else plain[: length - 1] + "…"
