"""Echo, pause and resume a destination."""

import time
from dataclasses import dataclass

from gateway import log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.tables import activity, destinations
from gateway.database.tables.activity import Operator
from gateway.database.wakeup import Wakeup
from gateway.domain.routing import Route
from gateway.errors import AssociationRejectedError, PeerError
from gateway.forward.context import STAGE
from gateway.forward.probe import answer_of


@dataclass(frozen=True, slots=True)
class Echo:
    """The answer of a peer to a C-ECHO; `error` says why there is none."""

    ae_title: str
    address: str
    well: bool
    seconds: float
    error: str | None


def echo(configuration: Configuration, ae_title: str) -> Echo:
    """Send a C-ECHO with the AE title of the edge; KeyError if config.yaml does not name the peer."""
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
    except PeerError as failure:
        error = str(failure)
    seconds = time.monotonic() - began
    return Echo(ae_title, f"{destination.host}:{destination.port}", well, seconds, error)


def pause(database: Database, configuration: Configuration, ae_title: str, operator: Operator) -> bool:
    """Send nothing to the peer until `resume`; return False if it was paused already."""
    with database.transaction() as session:
        destinations.configure(session, configuration)
        changed = destinations.pause(session, ae_title, by=operator.text)
        if changed:
            activity.record(session, operator, "pause", ae_title, outcome="paused")
    if changed:
        _log(configuration, ae_title, "paused", operator)
    return changed


def resume(database: Database, configuration: Configuration, ae_title: str, operator: Operator) -> bool:
    """End a pause, and close an open breaker; return False if there was neither."""
    with database.transaction() as session:
        route = destinations.resume(session, ae_title)
        if route is not None:
            activity.record(session, operator, "resume", ae_title, outcome="resumed")
    if route is None:
        return False
    _wake(database, route)
    _log(configuration, ae_title, "resumed", operator)
    return True


def _wake(database: Database, route: Route) -> None:
    wakeup = Wakeup(database.dsn)
    wakeup.wake(route)
    wakeup.close()


def _log(configuration: Configuration, ae_title: str, outcome: str, operator: Operator) -> None:
    stage = STAGE[configuration.forwarder.route_of(ae_title)]
    log.write(stage, outcome, level="warning", destination=ae_title, detail=f"by {operator.text}")
