"""Suspects: instances at which a peer broke the association. Only the suspect that has the turn is sent."""

from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.deliveries import DeliveryClaim, Settled

_Q = load("turns")


class Turn(StrEnum):
    """Whether a delivery may be sent now; see functions/take_turn.sql."""

    FREE = "free"
    TURN = "turn"
    WAIT = "wait"


class TakenTurn(NamedTuple):
    """Whether the delivery may be sent, and whether it was parked before."""

    verdict: Turn
    was_parked: bool


def is_needed(session: Session, ae_title: str) -> bool:
    """Tell whether there are suspects or parked deliveries for that peer."""
    return bool(session.value(_Q["is_needed"], ae_title=ae_title))


def take(session: Session, claim: DeliveryClaim, ae_title: str) -> TakenTurn:
    """Take the turn for a claimed delivery if it is a suspect; tell whether it was parked before."""
    return session.only(TakenTurn, _Q["take"], delivery_id=claim.delivery_id, ae_title=ae_title)


def park(session: Session, claim: DeliveryClaim, ae_title: str, *, reason: str, wait: timedelta) -> Settled:
    """Give a claim back without sending; the delivery is due when `call` chooses it, or after `wait`."""
    return session.only(
        Settled,
        _Q["park"],
        delivery_id=claim.delivery_id,
        claim_id=claim.claim_id,
        ae_title=ae_title,
        reason=reason,
        wait=wait,
    )


def call(session: Session, ae_title: str, *, most: int) -> bool:
    """Make deliveries due that are parked for that peer and may be sent now; tell whether there were any."""
    return bool(session.value(_Q["call"], ae_title=ae_title, most=most))


def note_broken(session: Session, claim: DeliveryClaim, ae_title: str) -> None:
    """Record that the peer broke the association at this instance: its study is suspect now."""
    session.run(_Q["suspect"], ae_title=ae_title, instance_id=claim.instance.instance_id)
    session.run(_Q["forget_old"])


def note_taken(session: Session, claim: DeliveryClaim, ae_title: str) -> None:
    """Record that the peer took this instance: neither it nor its sender is the cause."""
    session.run(_Q["took"], ae_title=ae_title, instance_id=claim.instance.instance_id)
    session.run(_Q["clear_sender"], ae_title=ae_title, instance_id=claim.instance.instance_id)
