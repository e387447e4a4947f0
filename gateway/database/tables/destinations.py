"""The peers: circuit breaker, pause, failures in a row, results that are expected."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from gateway.database.queries import Query, load
from gateway.database.session import Session
from gateway.database.tables import units
from gateway.domain.contract import END_PAUSE, PROBE, UNGATED_PRIORITY
from gateway.domain.routing import Route, Target

if TYPE_CHECKING:
    from gateway.config import Configuration  # slow to import

_Q = load("destinations")

RENAMED_AT_ONCE = 10_000
"""How many deliveries get another AE title of the PACS in one transaction."""
NEWEST = 2**63 - 1

PROBE_CHOICE = 5
"""How many deliveries are chosen for one probe: the first ones may be taken, or not claimable."""


@dataclass(frozen=True, slots=True)
class DestinationState:
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


@dataclass(frozen=True, slots=True)
class Pause:
    """Whether a destination is paused; by whom, why, and until when."""

    paused: bool
    paused_by: str | None = None
    pause_reason: str | None = None
    paused_until: datetime | None = None


class OverdueProbe(NamedTuple):
    """A peer with an open breaker whose probe did not run."""

    ae_title: str
    route: Route


class _EndedPause(NamedTuple):
    route: Route
    probed: bool


class _Breaker(NamedTuple):
    before: str
    after: str


class _SentProbe(NamedTuple):
    probe_by_store: bool
    message_id: str


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


def note_well(session: Session, ae_title: str, *, by_store: bool) -> bool:
    """Record that the peer answered a C-STORE (`by_store`) or a probe; tell whether this closed its breaker.

    A breaker that C-STOREs opened is closed only by the answer to a C-STORE.
    """
    return bool(session.value(_Q["note_well"], ae_title=ae_title, by_store=by_store) == "open")


def note_answer(session: Session, ae_title: str, *, answers: str | None, reason: str | None = None) -> None:
    """Record the result of a probe: what the peer answers while its breaker is open, or why it does not."""
    session.run(_Q["note_answer"], ae_title=ae_title, answers=answers, reason=reason)


def note_failure(
    session: Session,
    ae_title: str,
    route: Route,
    *,
    instance_id: int | None,
    reason: str,
    at_once: bool,
    probe_by_store: bool,
    threshold: int,
    probe_wait: timedelta,
    siblings_are_one: bool = False,
) -> bool:
    """Record a failure; tell whether it opened the peer's breaker (the first probe is sent then).

    With `siblings_are_one`, the instances of a study count as one failure while the peer takes other studies.
    """
    breaker = session.row(
        _Breaker,
        _Q["note_failure"],
        ae_title=ae_title,
        instance_id=instance_id,
        reason=reason,
        at_once=at_once,
        probe_by_store=probe_by_store,
        threshold=threshold,
        probe_wait=probe_wait,
        siblings_are_one=siblings_are_one,
    )
    if breaker != ("closed", "open"):
        return False
    send_probe(session, ae_title, route, wait=probe_wait, first=True)
    return True


class Probe(StrEnum):
    """How to ask a peer whether it is back."""

    ECHO = "echo"
    STORE = "store"  # it answers C-ECHO, but C-STOREs failed: send an instance


def send_probe(
    session: Session, ae_title: str, route: Route, *, wait: timedelta, first: bool = False
) -> Probe | None:
    """Send the message of the next probe; return how to probe now, or None where it is not time.

    `first` begins the chain of probes. Consumers claim the messages of probes although the route is closed.
    """
    sent = session.row(
        _SentProbe,
        _Q["send_probe"],
        ae_title=ae_title,
        wait=wait,
        first=first,
        # A probe of an archive takes a thread of that archive's share.
        queue=Target(route, ae_title).queue if route is Route.ARCHIVES else PROBE[route].queue_name,
        actor_name=PROBE[route].actor_name,
        priority=UNGATED_PRIORITY,
    )
    if sent is None:
        return None
    return Probe.STORE if sent.probe_by_store else Probe.ECHO


def half_open(session: Session, ae_title: str, *, threshold: int, answers: str | None) -> bool:
    """Close the breaker for one instance, which opens it if it fails; return False if it was not open."""
    row = session.one(_Q["half_open"], ae_title=ae_title, threshold=threshold, answers=answers)
    return row is not None


def choose_probes(session: Session, ae_title: str) -> list[int]:
    """Return deliveries that can test an archive whose breaker is open, the best first."""
    return [row[0] for row in session.all(_Q["choose_probes"], ae_title=ae_title, limit=PROBE_CHOICE)]


def begin_probe(session: Session, ae_title: str, delivery_id: int) -> bool:
    """Make that delivery due to test the archive; return False if it is not pending, or no test is needed."""
    return session.one(_Q["begin_probe"], ae_title=ae_title, delivery_id=delivery_id) is not None


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


def states(session: Session) -> list[DestinationState]:
    """Return every configured peer, the PACS first."""
    return session.rows(DestinationState, _Q["all"])


def overdue_probes(session: Session, *, grace: timedelta) -> list[OverdueProbe]:
    """Return the peers with an open breaker whose probe is overdue."""
    return session.rows(OverdueProbe, _Q["overdue_probes"], grace=grace)
