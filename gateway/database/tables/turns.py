"""Suspects: instances at which a peer breaks the association, and the one turn that they share."""

from datetime import timedelta
from enum import StrEnum

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.deliveries import DeliveryClaim, Settled
from gateway.domain.contract import FORWARD_TO_PACS
from gateway.domain.instance import Place

_Q = load("turns")


class Turn(StrEnum):
    """Whether a delivery may be sent now; see take_turn in migrations/0010_peers.sql."""

    FREE = "free"
    TURN = "turn"
    WAIT = "wait"


def is_needed(session: Session, ae_title: str) -> bool:
    """Tell whether anything is suspect at that peer, or parked for it."""
    return session.one(_Q["is_needed"], ae_title=ae_title) == (True,)


def take(session: Session, claim: DeliveryClaim, ae_title: str) -> tuple[Turn, bool]:
    """Take the turn of the suspects for a claimed delivery, if it is one; tell whether it was parked."""
    row = session.one(_Q["take"], delivery_id=claim.delivery_id, ae_title=ae_title)
    assert row is not None, "a function returns a row"
    return Turn(row[0]), bool(row[1])


def park(session: Session, claim: DeliveryClaim, ae_title: str, *, reason: str, wait: timedelta) -> Settled:
    """Give a claim back unsent, to be called when it is its turn, or after `wait`."""
    row = session.one(
        _Q["park"],
        delivery_id=claim.delivery_id,
        claim_id=claim.claim_id,
        ae_title=ae_title,
        reason=reason,
        wait=wait,
        actor_name=FORWARD_TO_PACS.actor_name,
    )
    assert row is not None, "a function returns a row"
    settled, before, after = row
    return Settled(bool(settled), before and Place(before), after and Place(after), peer_had_failed=False)


def call(session: Session, ae_title: str, *, most: int) -> bool:
    """Wake what is parked for that peer and may go now; tell whether there was any."""
    row = session.one(_Q["call"], ae_title=ae_title, most=most)
    assert row is not None, "a function returns a row"
    return bool(row[0])


def note_broken(session: Session, claim: DeliveryClaim, ae_title: str) -> None:
    """The peer broke the association over this instance: it and its study are suspects."""
    session.run(_Q["suspect"], ae_title=ae_title, instance_id=claim.instance.instance_id)
    session.run(_Q["forget_old"])


def note_taken(session: Session, claim: DeliveryClaim, ae_title: str) -> None:
    """The peer took this instance: neither it nor its sender is what it chokes on."""
    session.run(_Q["took"], ae_title=ae_title, instance_id=claim.instance.instance_id)
    session.run(_Q["clear_sender"], ae_title=ae_title, instance_id=claim.instance.instance_id)
