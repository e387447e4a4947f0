"""Instances that cannot be sent because of their file: it is gone, has other bytes, or cannot be read."""

from datetime import datetime
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.domain.outcome import Outcome

LIMIT = 10_000
"""So many deliveries are looked at, the last ones first."""

_Q = load("unread_files")


class Unread(NamedTuple):
    """What happened to the files of some undelivered instances, with the last delivery as an example.

    `senders` sent them, and `copies` are destinations that took `copied` of them.
    """

    outcome: Outcome
    instances: int
    since: datetime
    targets: tuple[str, ...]
    senders: tuple[str, ...]
    delivery_id: int
    error: str | None
    study_instance_uid: str
    studies: int
    copied: int
    copies: tuple[str, ...]


def unread(session: Session) -> list[Unread]:
    """Return what is wrong with files of undelivered instances, one row for each outcome."""
    return session.rows(Unread, _Q["unread"], limit=LIMIT)
