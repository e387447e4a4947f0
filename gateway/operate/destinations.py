"""Pause, resume and ask a destination.

If the process dies
    before the commit   nothing was changed
    after it            the consumers look once a second, so `resume` needs no more
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from gateway import log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import activity, configurations, destinations, pauses
from gateway.database.tables.activity import Operator
from gateway.database.tables.pauses import Pause
from gateway.database.wakeup import wake_once
from gateway.errors import AssociationRejectedError, ConfigurationError, PeerError, StaleError
from gateway.forward.context import STAGE
from gateway.forward.probe import answer_of
from gateway.times import moment, span

LONGEST_PAUSE = timedelta(days=30)
LONGEST_REASON = 200


class Paused(StrEnum):
    """What `pause` did."""

    BEGUN = "begun"
    CHANGED = "changed"  # it was paused, and has another reason or end now
    NOT_CHANGED = "not_changed"  # it was paused already


@dataclass(frozen=True, slots=True)
class Echo:
    """How a destination answered a C-ECHO; `error` says why it did not."""

    ae_title: str
    address: str
    well: bool
    seconds: float
    error: str | None


def pause(
    database: Database,
    configuration: Configuration,
    ae_title: str,
    operator: Operator,
    *,
    reason: str | None = None,
    lasting: timedelta | None = None,
    seen: Pause | None = None,
) -> Paused:
    """Send nothing to a destination until `resume`, or for `lasting`.

    A pause that is given a reason or an end replaces those of the pause before.

    Raises:
        StaleError: the pause is not the one that the operator saw, or the destination is not loaded yet.
    """
    why = activity.printable(reason.strip(), LONGEST_REASON) if reason and reason.strip() else None
    with database.transaction() as session:
        if configurations.may_be_used(session, configuration.digest):
            destinations.configure(session, configuration)  # no process may have been started yet
        elif pauses.lock_pause(session, ae_title) is None:
            raise StaleError(
                f"nothing was paused: {ae_title} is in {configuration.source}, which was edited and not "
                "loaded. Type `mini-pacs config reload` first"
            )
        require_seen(session, ae_title, seen)
        done = Paused.NOT_CHANGED
        if pauses.pause(session, ae_title, by=operator.text, reason=why, lasting=lasting):
            done = Paused.BEGUN
        elif (why is not None or lasting is not None) and pauses.change_pause(
            session, ae_title, by=operator.text, reason=why, lasting=lasting
        ):
            done = Paused.CHANGED
        if done is not Paused.NOT_CHANGED:
            until = "until it is resumed" if lasting is None else f"for {span(lasting.total_seconds())}"
            activity.record(
                session, operator, "pause", ae_title, outcome=f"paused {until}" + (f": {why}" if why else "")
            )
    if done is not Paused.NOT_CHANGED:
        _log(configuration, ae_title, "paused", operator)
    return done


def resume(
    database: Database,
    configuration: Configuration,
    ae_title: str,
    operator: Operator,
    *,
    seen: Pause | None = None,
) -> bool:
    """End a pause and close an open breaker; return False if there was neither.

    Raises:
        StaleError: the pause is not the one that the operator saw.
    """
    with database.transaction() as session:
        require_seen(session, ae_title, seen)
        route = pauses.resume(session, ae_title)
        if route is not None:
            activity.record(session, operator, "resume", ae_title, outcome="gets its deliveries again")
    if route is None:
        return False
    wake_once(database.dsn, [route])
    _log(configuration, ae_title, "resumed", operator)
    return True


def require_seen(session: Session, ae_title: str, seen: Pause | None) -> None:
    """Lock the destination; return if its pause is the one that the operator saw. None checks nothing.

    Raises:
        StaleError: it is another one; says which.
    """
    if seen is None:
        return
    current = pauses.lock_pause(session, ae_title)
    if current != seen:
        raise StaleError(f"{in_words(ae_title, current)}: this has changed since you looked")


def in_words(ae_title: str, pause: Pause | None) -> str:
    """Return the pause of a destination as a sentence."""
    if pause is None:
        return f"{ae_title} is not configured any more"
    if not pause.paused:
        return f"{ae_title} is not paused"
    until = "" if pause.paused_until is None else f" until {moment(pause.paused_until)}"
    return f"{ae_title} is paused by {pause.paused_by or 'somebody'}{until}"


def echo(configuration: Configuration, ae_title: str) -> Echo:
    """Send a C-ECHO to a destination, with the AE title of the edge."""
    destination = configuration.destination(ae_title)
    began = time.monotonic()
    error = None
    well = False
    try:
        well = answer_of(configuration.edge.ae_title, destination, configuration.forwarder) is not None
        error = None if well else "it answered C-ECHO with a failure"
    except AssociationRejectedError as rejection:
        error = (
            f"{rejection}; does it know {configuration.edge.ae_title}, and is {ae_title} its own AE title?"
        )
    except (PeerError, ConfigurationError) as failure:
        error = str(failure)
    seconds = time.monotonic() - began
    return Echo(ae_title, f"{destination.host}:{destination.port}", well, seconds, error)


def _log(configuration: Configuration, ae_title: str, outcome: str, operator: Operator) -> None:
    route = configuration.forwarder.route_of(ae_title)
    log.write(STAGE[route], outcome, level="warning", destination=ae_title, detail=f"by {operator.text}")
