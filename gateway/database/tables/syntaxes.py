"""The transfer syntaxes that archives accept, as they answered when they were asked last."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session

_Q = load("syntaxes")


class Answered(NamedTuple):
    """Whether an archive accepts a transfer syntax."""

    ae_title: str
    transfer_syntax_uid: str
    accepted: bool


class Declined(NamedTuple):
    """Transfer syntaxes that an archive accepted before and declines now; `declined_at` is the first time."""

    ae_title: str
    transfer_syntax_uids: list[str]
    declined_at: datetime


class _Changed(NamedTuple):
    transfer_syntax_uid: str
    accepted: bool


def note(session: Session, ae_title: str, answers: Mapping[str, bool]) -> dict[str, bool]:
    """Write the answers of an archive; return those that changed."""
    changed = session.rows(
        _Changed, _Q["note"], ae_title=ae_title, uids=list(answers), accepted=list(answers.values())
    )
    return {one.transfer_syntax_uid: one.accepted for one in changed}


def known(session: Session, ae_titles: Sequence[str]) -> list[Answered]:
    """Return what these archives answered."""
    return session.rows(Answered, _Q["known"], ae_titles=list(ae_titles))


def declined(session: Session, *, window: timedelta) -> list[Declined]:
    """Return the transfer syntaxes that configured archives declined for the first time within `window`."""
    return session.rows(Declined, _Q["declined"], window=window)
