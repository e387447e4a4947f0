"""The circuit breaker of each peer: what opens and closes it, and the probes while it is open.

The row is that of the peer; see destinations.py. Only one chain of probes runs for a peer: the message of the
next probe is written before the peer is asked. If the process dies in between, the chain continues; a lost
message is replaced by the sweep (`overdue_probes`).
"""

from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.domain.contract import PROBE, UNGATED_PRIORITY
from gateway.domain.routing import Route, Target

_Q = load("breakers")

PROBE_CHOICE = 5
"""How many deliveries are chosen for one probe: the first ones may be taken, or not claimable."""


class OverdueProbe(NamedTuple):
    """A peer with an open breaker whose probe did not run."""

    ae_title: str
    route: Route


class _Breaker(NamedTuple):
    before: str
    after: str


class _SentProbe(NamedTuple):
    probe_by_store: bool
    message_id: str


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


def overdue_probes(session: Session, *, grace: timedelta) -> list[OverdueProbe]:
    """Return the peers with an open breaker whose probe is overdue."""
    return session.rows(OverdueProbe, _Q["overdue_probes"], grace=grace)
