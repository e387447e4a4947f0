"""Find the peers that leave sends unanswered for unusually long: a PACS that hangs, before its timeout.

The database knows when a send began, and not how many bytes the peer has taken. So a send counts only if it
takes longer than a large instance on a slow line, and much longer than recent sends to this peer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.database.tables.overview import Overview
from gateway.database.tables.sends import Answers, Send

LONG_SECONDS = 10.0
"""Shorter sends never count."""
USUAL_TIMES = 5.0
"""How many times longer than 99 of 100 recent sends to this peer."""
SLOW_BYTES_PER_SECOND = 1_000_000
"""A line of 8 Mbit/s, over which even a large instance may still be on its way."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The sends to one peer that are unanswered for long, and the age of the oldest."""

    ae_title: str
    count: int
    oldest: timedelta
    takes_others: bool
    """The peer accepted another instance after the oldest of these sends had begun."""


def unanswered(view: Overview) -> Iterator[Unanswered]:
    """Yield each peer with such sends."""
    return unanswered_of(view.sends, view.answers, view.now)


def unanswered_of(sends: Sequence[Send], answers: Sequence[Answers], now: datetime) -> Iterator[Unanswered]:
    """Yield each peer that leaves some of `sends` unanswered for long at the time `now`."""
    known = {one.ae_title: one for one in answers}
    for ae_title in dict.fromkeys(send.ae_title for send in sends):
        answer = known.get(ae_title)
        late = [
            send for send in sends if send.ae_title == ae_title and now - send.since > _expected(send, answer)
        ]
        if late:
            began = min(send.since for send in late)
            takes_others = answer is not None and answer.last_at > began
            yield Unanswered(ae_title, len(late), now - began, takes_others)


def _expected(send: Send, answers: Answers | None) -> timedelta:
    """Return the time within which this send is not unusual."""
    usual = 0.0 if answers is None else answers.usual_seconds
    return timedelta(seconds=max(LONG_SECONDS, USUAL_TIMES * usual, send.bytes / SLOW_BYTES_PER_SECOND))
