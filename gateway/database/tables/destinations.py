"""The peers of config.yaml as rows: their configuration, their state for operators, their next time slot.

breakers.py and pauses.py change the rest of a row: the circuit breaker with its probes, and the pause.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables import units
from gateway.domain.routing import Route

if TYPE_CHECKING:
    from gateway.config import Configuration  # slow to import

_Q = load("destinations")

RENAMED_AT_ONCE = 10_000
"""How many deliveries get another AE title of the PACS in one transaction."""
NEWEST = 2**63 - 1


class DestinationState(NamedTuple):
    """A configured peer as an operator sees it."""

    ae_title: str
    route: Route
    breaker: str
    probe_by_store: bool
    paused: bool
    paused_by: str | None
    failures_in_row: int
    reason: str | None
    changed_at: datetime
    next_probe_at: datetime | None
    max_outstanding: int
    outstanding: int
    answers: str | None = None
    """Its answer to the last probe, while it takes no C-STORE."""
    reason_at: datetime | None = None
    is_tried: bool = False
    """True for a worker that took no C-STORE and is tried with one instance now."""
    suspects: int = 0
    """Instances over which it broke an association in the last ten minutes."""

    pause_reason: str | None = None
    paused_until: datetime | None = None
    """When the pause ends by itself; None where only an operator ends it."""

    @property
    def is_open_for_work(self) -> bool:
        """Tell whether deliveries are sent there now."""
        return self.breaker == "closed" and not self.paused


def configure(session: Session, configuration: "Configuration") -> None:
    """Write the configured peers into the table; keep the state of known peers.

    If the PACS has another AE title than before, its newest deliveries get it now, the others by the sweep.
    """
    forwarder = configuration.forwarder
    served = [
        (application.name, worker.ae_title, application.max_outstanding)
        for application in forwarder.applications_in_force.values()
        for worker in application.workers
    ]
    rename_pacs(session, forwarder.orthanc.ae_title)
    for destination in configuration.destinations:
        title = destination.ae_title
        session.run(
            _Q["configure"],
            ae_title=title,
            route=forwarder.route_of(title).value,
            max_outstanding=max(
                (most for _, worker, most in served if worker == title),
                default=forwarder.worker_max_outstanding,
            ),
        )
    session.run(_Q["forget_others"], ae_titles=[d.ae_title for d in configuration.destinations])
    session.run(
        _Q["configure_applications"],
        applications=[application for application, _, _ in served],
        ae_titles=[title for _, title, _ in served],
        max_outstanding=[most for _, _, most in served],
    )
    whole = [one for one in forwarder.applications_in_force.values() if one.unit != "instance"]
    session.run(
        _Q["configure_units"],
        applications=[one.name for one in whole],
        units=[one.unit for one in whole],
        complete_after=[timedelta(seconds=one.complete_after_seconds) for one in whole],
        max_wait=[timedelta(seconds=one.max_wait_seconds) for one in whole],
        late=[one.late for one in whole],
    )
    units.look_earlier(session)


def rename_pacs(session: Session, ae_title: str, *, before: int | None = None) -> int | None:
    """Give deliveries to the PACS its present AE title, the newest of those before the id `before` first.

    RENAMED_AT_ONCE at most. Return the last one, None if there was none.
    """
    found: int | None = session.value(
        _Q["rename_pacs"],
        ae_title=ae_title,
        before=NEWEST if before is None else before,
        limit=RENAMED_AT_ONCE,
    )
    return found


def renamed_to(session: Session) -> str | None:
    """Return the AE title of the PACS while deliveries may have one that it had before; else None."""
    titles: list[str] = session.values(_Q["renamed_to"])
    return titles[0] if titles else None


def forget_renamed(session: Session, ae_title: str) -> None:
    """Forget the AE titles that the PACS had before, if no delivery has one of them."""
    session.run(_Q["forget_renamed"], ae_title=ae_title)


def forget_removed(session: Session, configuration: "Configuration") -> None:
    """Send nothing more to peers that the configuration does not have; their rows keep their state.

    A PACS with another AE title is left to `configure`, which hands its deliveries over.
    """
    session.run(_Q["forget_removed"], ae_titles=[d.ae_title for d in configuration.destinations])


def take_slot(session: Session, ae_title: str, *, pause: timedelta) -> float:
    """Take the next time slot of a destination with a rate; return in how many seconds it is."""
    return float(session.value(_Q["take_slot"], ae_title=ae_title, pause=pause) or 0.0)


def states(session: Session) -> list[DestinationState]:
    """Return every configured peer, the PACS first."""
    return session.rows(DestinationState, _Q["all"])
