"""The pause of a peer by an operator: nothing is claimed for it until it ends.

The row is that of the peer; see destinations.py. The end of a pause with a limit is a message, written with
the pause. If that message is lost, the sweep ends the pause (`ended_pauses`).
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.database.queries import Query, load
from gateway.database.session import Session
from gateway.database.tables.breakers import send_probe
from gateway.domain.contract import END_PAUSE
from gateway.domain.routing import Route

_Q = load("pauses")


class Pause(NamedTuple):
    """Whether a destination is paused; by whom, why, and until when."""

    paused: bool
    paused_by: str | None = None
    pause_reason: str | None = None
    paused_until: datetime | None = None


class _EndedPause(NamedTuple):
    route: Route
    probed: bool


def pause(
    session: Session, ae_title: str, *, by: str, reason: str | None = None, lasting: timedelta | None = None
) -> bool:
    """Claim nothing for that peer until `resume`, or for `lasting`; return False if it is paused already.

    Also return False if it is not configured.
    """
    return _pause(session, _Q["pause"], ae_title, by=by, reason=reason, lasting=lasting)


def change_pause(
    session: Session, ae_title: str, *, by: str, reason: str | None, lasting: timedelta | None
) -> bool:
    """Replace reason and end of a pause; return False if there is none."""
    return _pause(session, _Q["change_pause"], ae_title, by=by, reason=reason, lasting=lasting)


def _pause(
    session: Session, query: Query, ae_title: str, *, by: str, reason: str | None, lasting: timedelta | None
) -> bool:
    row = session.one(query, ae_title=ae_title, by=by, reason=reason, lasting=lasting)
    if row is None:
        return False
    if row[0] is not None:
        session.run(
            _Q["send_end_of_pause"],
            queue=END_PAUSE.queue_name,
            actor_name=END_PAUSE.actor_name,
            ae_title=ae_title,
            due=row[0],
        )
    return True


def lock_pause(session: Session, ae_title: str) -> Pause | None:
    """Lock the row of a configured peer and return its pause; None if it is not configured."""
    return session.row(Pause, _Q["lock_pause"], ae_title=ae_title)


def end_pause(session: Session, ae_title: str) -> Route | None:
    """End a pause whose time is over; return the route to wake, or None if there is none.

    Call it in a transaction: where the breaker is open, the first probe is sent with it.
    """
    ended = session.row(_EndedPause, _Q["end_pause"], ae_title=ae_title)
    if ended is None:
        return None
    if ended.probed:
        send_probe(session, ae_title, ended.route, wait=timedelta(), first=True)
    return ended.route


def ended_pauses(session: Session) -> list[str]:
    """Return the peers whose pause should have ended."""
    return session.values(_Q["ended_pauses"])


def resume(session: Session, ae_title: str) -> Route | None:
    """End the pause and close the breaker; return the route to wake, or None if there was neither."""
    row = session.one(_Q["resume"], ae_title=ae_title)
    return None if row is None else Route(row[0])
